"""The commands of docs/seeing.md, one after the other, about the workflow that stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from test_docs import RUNNABLE, blocks

import orch
from orch.cli.main import main

PAGE = Path(__file__).parent.parent / "docs" / "seeing.md"


def commands() -> list[list[str]]:
    """Lines of the blocks of shell, as words."""
    shell = [block for block in blocks(PAGE) if block.info == "sh"]
    return [shlex.split(line) for block in shell for line in block.text.splitlines()]


def test_its_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (workflow,) = [block for block in RUNNABLE if block.page == PAGE.name]
    (tmp_path / "words.py").write_text(workflow.text)
    assert main(["run", "words.py"]) == 0
    for words in commands():
        assert words[0] == "orch"
        code = main(words[1:])
        said = capfd.readouterr()
        assert code == (1 if "--attempt" in words else 0), f"{words}: {said.err}"
        assert said.out or "--attempt" in words or "--bundle" in words, words
    assert (tmp_path / "copies" / "report.txt").read_text() == "5 words\n"
    graph = orch.replay(".orch").graph
    assert graph.order() == ["1", "2", "3", "4"]
    assert graph.predecessors("3") == ["1", "2"]


def test_it_shows_each_way_of_seeing() -> None:
    found = {words[1] for words in commands()}
    assert found == {"stats", "status", "why", "files", "debug"}
    assert all(re.search(rf"`orch {name}`", PAGE.read_text()) for name in found)
