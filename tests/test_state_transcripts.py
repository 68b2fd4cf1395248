"""Scenarios as readable transcripts, in `tests/transcripts`.

ORCH_REWRITE=1 writes down what really happens; the difference is then to be reviewed like code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.transcript import play

SCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_story_is_as_written(script: Path) -> None:
    text = script.read_text("utf-8")
    told = play(text)
    if os.environ.get("ORCH_REWRITE"):
        script.write_text(told, "utf-8")
    assert told == text or os.environ.get("ORCH_REWRITE")


def test_there_are_stories() -> None:
    assert len(SCRIPTS) >= 12
