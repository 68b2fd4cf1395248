"""The workflow of the kit's whole run: it is copied beside the texts, and begun there as a user's file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orch


@orch.job
def count(path: str) -> dict[str, int]:
    """How often each word stands in a file."""
    words: dict[str, int] = {}
    for word in Path(path).read_text(encoding="utf-8").split():
        words[word] = words.get(word, 0) + 1
    return words


@orch.job
def merge(counts: list[dict[str, int]]) -> dict[str, int]:
    """The sum."""
    words: dict[str, int] = {}
    for each in counts:
        for word, number in each.items():
            words[word] = words.get(word, 0) + number
    return words


@orch.job(local=True)
def table(words: dict[str, int]) -> list[list[Any]]:
    """In order. It runs beside the leader."""
    return [[word, words[word]] for word in sorted(words)]


@orch.workflow
def word_count(folder: str) -> Any:
    """Count the words of all files in a folder."""
    return table(merge([count(str(path)) for path in sorted(Path(folder).iterdir())]))
