"""Who may import whom. What a module may do beyond that is ruff's matter (banned-api in pyproject.toml)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"orchestrator": "orch", "bus": "orch.bus", "adapters": "orch.adapters", "cli": "orch.cli"}


def imports(path: Path) -> Iterator[str]:
    """All modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def importing(folder: str, *forbidden: str) -> list[str]:
    """Lines "file: module" for imports of what is forbidden in a folder."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        found += [f"{path.relative_to(ROOT)}: {module}" for module in imports(path) if _is_one(module, forbidden)]
    return found


def _is_one(module: str, of: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in of)


def test_the_bus_imports_nothing_else_of_orch() -> None:
    others = [line for line in importing("bus", "orch") if ": orch.bus" not in line]
    assert others == []


@pytest.mark.parametrize("folder", ["orchestrator", "bus", "adapters"])
def test_only_the_command_imports_the_command(folder: str) -> None:
    assert importing(folder, "orch.cli", "typer", "rich") == []


def test_adapters_know_the_contract_and_never_the_leader() -> None:
    assert importing("adapters", "orch.leader", "orch.api", "orch.state") == []


def test_the_state_does_no_input_and_no_output() -> None:
    effects = ("anyio", "asyncio", "os", "pathlib", "io", "socket", "shutil", "tempfile", "orch.store", "orch.leader")
    assert importing("orchestrator/state", *effects) == []


def test_the_leader_imports_no_user_code() -> None:
    """That is for planners, templates and workers: what loads it, and what unpickles, stays out of here."""
    machinery = ("importlib", "pickle", "cloudpickle", "orch.work", "orch.authoring", "orch.imports")
    assert importing("orchestrator/leader", *machinery) == []


def test_these_tests_can_see(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f():\n    from orch.cli.main import main\n")
    assert list(imports(tmp_path / "module.py")) == ["orch.cli.main"]
