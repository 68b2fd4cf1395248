"""Our own source code, as trees: for tests of what it never does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
PACKAGES = ("orchestrator", "bus", "adapters", "cli")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """All of our modules, by their paths."""
    for package in PACKAGES:
        for file in sorted((TOP / package).rglob("*.py")):
            yield str(file.relative_to(TOP)), ast.parse(file.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """A name like "os.path.join"; empty for what is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def imported(tree: ast.Module) -> dict[str, str]:
    """The names that a module imports, at its top or anywhere, and what each stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(
                {
                    (each.asname or each.name.partition(".")[0]): (each.asname and each.name)
                    or each.name.partition(".")[0]
                    for each in node.names
                }
            )
        elif isinstance(node, ast.ImportFrom):
            found.update({each.asname or each.name: f"{node.module}.{each.name}" for each in node.names})
    return found


def mentions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Everything that a module mentions, under its full name, with the line: calls, base classes, references."""
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = dotted(node).partition(".")
            yield node.lineno, f"{names.get(first, first)}{dot}{rest}"
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{each.name}") for each in node.names)
