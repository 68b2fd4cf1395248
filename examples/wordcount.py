"""Count the words of every Python file of the standard library, or of another directory.

orch run examples/wordcount.py --top 10

Some 1,500 files are counted in a few hundred jobs; a tree of jobs merges the counts.
"""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import orch

WORD = re.compile(r"[A-Za-z]{2,}")
FAN_IN = 10  # counts that one job merges


@orch.job(memory="256 MiB")
def count(paths: list[str]) -> Counter[str]:
    """How often each word stands in the files, upper and lower case alike."""
    words: Counter[str] = Counter()
    for path in paths:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        words.update(word.lower() for word in WORD.findall(text))
    return words


@orch.job(memory="512 MiB")
def merge(counts: list[Counter[str]]) -> Counter[str]:
    """The sum of some counts."""
    words: Counter[str] = Counter()
    for more in counts:
        words.update(more)
    return words


@orch.job
def table(words: Counter[str], files: int, top: int) -> dict[str, Any]:
    """The most frequent words; where two are as frequent, in alphabetical order."""
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return {"files": files, "words": words.total(), "different": len(words), "top": ranked[:top]}


@orch.workflow
def main(root: str = "", files_per_job: int = 5, top: int = 20) -> Any:
    """Count the words of all .py files below ROOT (default: Python's standard library)."""
    files = find(Path(root or sysconfig.get_path("stdlib")))
    layer = [count(files[start : start + files_per_job]) for start in range(0, len(files), files_per_job)]
    while len(layer) > 1:
        layer = [merge(layer[start : start + FAN_IN]) for start in range(0, len(layer), FAN_IN)]
    return table(layer[0] if layer else Counter(), len(files), top)


def find(root: Path) -> list[str]:
    """All Python files below `root`, but for those of installed packages, which are not the library's own."""
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts and path.is_file())
