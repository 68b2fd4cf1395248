"""Which files of a user's own tree a workflow imports: found by reading its code, which is never run here."""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from orch.errors import WorkflowError

_SUFFIXES = (".py", *importlib.machinery.EXTENSION_SUFFIXES)
_OTHERS = frozenset({"orch", *sys.stdlib_module_names})

_REMEMBERED = 256
"""Files: who starts the same workflow many times has them parsed once."""


class Found:
    """Files by their name in the bundle (relative to the tree's root), and what a user should be told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Path] = {}
        self.warnings: list[str] = []

    def add(self, file: Path) -> bool:
        """Note a file; False if it was there already."""
        name = file.relative_to(self.root).as_posix()
        if name in self.files:
            return False
        self.files[name] = file
        return True


def imported_files(root: Path, start: Path) -> Found:
    """`start`, and what it imports from `root`, and what that imports …; a package comes with its whole tree.

    Raises `WorkflowError` for a file that is no Python, with the line.
    """
    found = Found(root)
    waiting = [start]
    found.add(start)
    while waiting:
        file = waiting.pop()
        if file.suffix != ".py":
            continue
        strict = file == start or file.parent == root
        for name in sorted(_imports(file, strict=strict, top_level=file == start)):
            waiting.extend(_resolve(found, name))
    return found


def package_files(root: Path, package: str, found: Found | None = None) -> Found:
    """The whole tree of a top-level package, and what it imports from the same root."""
    found = found or Found(root)
    waiting = _add_tree(found, root / package)
    while waiting:
        file = waiting.pop()
        if file.suffix == ".py":
            for name in sorted(_imports(file, strict=False, top_level=False)):
                waiting.extend(_resolve(found, name))
    return found


def _resolve(found: Found, name: str) -> list[Path]:
    """Add what a top-level name stands for; the new files, to be read in their turn."""
    candidates = [found.root / f"{name}{suffix}" for suffix in _SUFFIXES]
    file = next((one for one in candidates if one.is_file()), None)
    package = found.root / name
    is_package = (package / "__init__.py").is_file() or (file is None and _has_python(package))
    if name in _OTHERS:
        if file is not None or is_package:
            own = file or package
            found.warnings.append(
                f"{own} is not used: 'import {name}' means {'orch' if name == 'orch' else 'the standard library'}"
                f"; rename it if it was meant"
            )
        return []
    if is_package:
        return _add_tree(found, package)
    return [file] if file is not None and found.add(file) else []


def _has_python(directory: Path) -> bool:
    return directory.is_dir() and any(file.suffix == ".py" for file in tree(directory))


def _add_tree(found: Found, directory: Path) -> list[Path]:
    return [file for file in tree(directory) if found.add(file)]


def tree(directory: Path) -> Iterator[Path]:
    """The files of a directory and below, without what is hidden, compiled, or an environment or store of its own."""
    for top, names, files in os.walk(directory, followlinks=True):
        here = Path(top)
        names[:] = sorted(name for name in names if not _is_foreign(here / name))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith((".pyc", ".pyo")):
                yield here / name


def _is_foreign(directory: Path) -> bool:
    return (
        directory.name.startswith(".")
        or directory.name in ("__pycache__", "node_modules")
        or (directory / "pyvenv.cfg").exists()
        or (directory / "orch.json").exists()
        or (directory.is_symlink() and directory.resolve() in directory.absolute().parents)
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{file} cannot be read: {error.strerror}") from error


def _parse(code: bytes, file: Path) -> ast.Module:
    """The syntax tree. Raises `WorkflowError` with file, line and text of what is wrong."""
    try:
        return ast.parse(code, str(file))
    except SyntaxError as error:
        text = (error.text or "").rstrip("\n")
        mark = f"\n    {text}\n    {' ' * ((error.offset or 1) - 1)}^" if text else ""
        raise WorkflowError(f"{file}:{error.lineno or 1}: syntax error: {error.msg}{mark}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise WorkflowError(f"{file} is not Python: {error}") from error


def _imports(file: Path, *, strict: bool, top_level: bool) -> frozenset[str]:
    """Top-level names that a file imports, anywhere in it. A broken file matters only if it is surely imported."""
    try:
        return _names(_read(file), file, top_level=top_level)
    except WorkflowError:
        if strict:
            raise
        return frozenset()


@functools.lru_cache(_REMEMBERED)
def _names(code: bytes, file: Path, *, top_level: bool) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(_parse(code, file)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level and top_level:
                raise WorkflowError(
                    f"{file}:{node.lineno}: a relative import does not work in a file that is run by its path; "
                    f"run it as a module of its package: orch run -m PACKAGE.{file.stem}"
                )
            if node.module and not node.level:
                names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call):
            names.update(_dynamic(node))
    return frozenset(names)


def _dynamic(call: ast.Call) -> Iterator[str]:
    """importlib.import_module("name") and __import__("name")."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    if name in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        top = first.value.partition(".")[0]
        if top:
            yield top


def declared_files(file: Path) -> list[tuple[int, str]]:
    """Line and pattern of each `@orch.workflow(include=[…])` in a file. Raises `WorkflowError` unless written out."""
    return list(_declared(_read(file), file))


@functools.lru_cache(_REMEMBERED)
def _declared(code: bytes, file: Path) -> tuple[tuple[int, str], ...]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(_parse(code, file)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _called_name(decorator) == "workflow":
                found.extend(_include(file, decorator))
    return tuple(found)


def _called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _include(file: Path, decorator: ast.Call) -> Iterator[tuple[int, str]]:
    for keyword in decorator.keywords:
        if keyword.arg != "include":
            continue
        try:
            patterns = ast.literal_eval(keyword.value)
        except ValueError:
            patterns = None
        if not isinstance(patterns, list | tuple) or not all(isinstance(one, str) for one in patterns):
            raise WorkflowError(
                f"{file}:{keyword.value.lineno}: include= must be a list of texts, written out "
                f'(it is read without running the code): include=["data/*.csv"]'
            )
        yield from ((keyword.value.lineno, pattern) for pattern in patterns)
