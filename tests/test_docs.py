"""What README and docs show is true: code compiles, examples give the result that is printed, links lead somewhere.

A block that begins with ```python is compiled. One that begins with ```python run has a workflow, which is run; if a
```json block follows before the next block of code, it is the result.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import orch
from orch.adapters.settings import OURS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")
PROOF = re.compile(r"`(tests/test_\w+\.py)(?:::(\w+))?`")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: what it says it is, its text, and where it stands."""

    page: str
    line: int
    info: str
    text: str
    result: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page.name, text[: match.start()].count("\n") + 2, match["info"].strip(), match["text"])
        for match in FENCE.finditer(text)
    ]
    for block, after in itertools.zip_longest(found, found[1:]):
        yield dataclasses.replace(block, result=after.text if after and after.info == "json" else "")


PYTHON = [block for page in PAGES for block in blocks(page) if block.info.split(" ")[0] == "python"]
RUNNABLE = [block for block in PYTHON if block.info == "python run"]


def load(block: Block, directory: Path) -> ModuleType:
    """The block as the module that a user would have saved."""
    name = f"block_{Path(block.page).stem}_{block.line}"
    path = directory / f"{name}.py"
    path.write_text(block.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_there_are_examples() -> None:
    assert len(RUNNABLE) >= 4
    assert {block.info for block in PYTHON} == {"python", "python run"}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_code_compiles(block: Block) -> None:
    padded = "\n" * (block.line - 1) + block.text  # so that an error names the line of the page
    compile(padded, block.page, "exec", dont_inherit=True)


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_examples_run(block: Block, tmp_path: Path) -> None:
    module = load(block, tmp_path)
    value = orch.run(module.main, store=tmp_path / "store")
    if block.result:
        assert value == json.loads(block.result)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    local = [target for target in targets if not target.startswith(("https:", "http:", "mailto:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_readme_begins_with_the_two_commands() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines[1:] if line][:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_prove_something_exist(page: Path) -> None:
    for file, name in PROOF.findall(page.read_text(encoding="utf-8")):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{page.name}: {file}::{name}"


def test_the_guarantees_name_their_proofs() -> None:
    """Every promise in a table has at least one."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "promise | proved by" not in line]
    assert len(rows) > 20
    assert [row for row in rows if not PROOF.search(row)] == []


def test_each_setting_of_a_batch_system_is_documented() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if "batch-systems" in str(page))
    names = {option.name for options in OURS.values() for option in options}
    assert [name for name in sorted(names) if name not in text] == []
