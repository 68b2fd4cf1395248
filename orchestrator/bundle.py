"""A workflow's code, frozen into the store: its file or package, what that imports from its own tree, declared extras.

Nothing of the user's is run or imported here. A bundle's digest depends on names and contents only, so that freezing
the same code twice gives the same bundle, and two processes may do it at once. That holds for code that is not copied,
too: who has imported it as it was is not to serve a run that was begun when it was another.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from orch.authoring.workflows import Workflow
from orch.errors import StoreError, WorkflowError
from orch.imports import Found, declared_files, imported_files, package_files, tree
from orch.store.file import FileStore
from orch.store.layout import bundle_dir
from orch.work.guard import refuse_nested
from orch.work.manifest import CODE, MANIFEST, PICKLE, Manifest, main_module, module_name, read_manifest

_CHUNK = 1024 * 1024
_SESSION = "<session>"


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a workflow's code is: a file, a module, or (pickled by value) a session that has neither.

    `function` is the workflow's name in it, if there may be several; relative paths start at `cwd`. `deploy`
    False: the code is not copied, and its directory must be there under the same path wherever jobs run.
    """

    path: str = ""
    module: str = ""
    function: str = ""
    pickled: bytes = b""
    deploy: bool = True
    cwd: str = ""

    @classmethod
    def file(cls, path: str | os.PathLike[str], *, deploy: bool = True, cwd: str = "") -> Source:
        """`orch run WORKFLOW.py`."""
        return cls(path=os.fspath(path), deploy=deploy, cwd=cwd or os.getcwd())

    @classmethod
    def of_module(cls, module: str, *, deploy: bool = True, cwd: str = "") -> Source:
        """`orch run -m PKG.MOD`, looked for in the current directory first."""
        return cls(module=module, deploy=deploy, cwd=cwd or os.getcwd())

    @classmethod
    def of(cls, workflow: Any, *, deploy: bool = True) -> Source:
        """The code of a workflow function of this process. Raises `WorkflowError` if it is none."""
        refuse_nested("orch.run")
        if isinstance(workflow, cls):
            return workflow
        if not isinstance(workflow, Workflow):
            raise WorkflowError(f"{workflow!r} is no workflow: decorate a function with @orch.workflow")
        return _source_of(workflow, deploy=deploy)

    @classmethod
    def again(cls, text: str, function: str = "", *, deploy: bool = True, cwd: str = "") -> Source | None:
        """The source that had this `text` and `function`; None where the code can only come from the old bundle."""
        if text == _SESSION:
            return None
        if text.startswith("-m "):
            return cls(module=text[3:], function=function, deploy=deploy, cwd=cwd)
        return cls(path=text, function=function, deploy=deploy, cwd=cwd)

    @property
    def text(self) -> str:
        """How the user named it: "wf.py" or "-m pkg.mod"."""
        if self.pickled:
            return _SESSION
        return f"-m {self.module}" if self.module else self.path

    def exists(self) -> bool:
        """Is the file, or module, still there?"""
        try:
            if self.module:
                _find_module(self)
            elif not self.pickled:
                _checked_file(self)
        except WorkflowError:
            return False
        return True


class Bundle(msgspec.Struct, frozen=True):
    """Frozen code. `warnings` are lines for the user."""

    digest: str
    manifest: Manifest
    warnings: list[str] = []

    @property
    def function(self) -> str:
        """The workflow function's name, if it was given; else empty: the only one there is."""
        return self.manifest.function


def freeze(source: Source, store: FileStore) -> Bundle:
    """Store the code, durable when this returns.

    Raises `StoreError`, and `WorkflowError`, also where a workflow's module starts a run while it is being imported.
    """
    refuse_nested("orch.run")
    manifest, found = _survey(source)
    digest = _digest(manifest, found.files, source.pickled)
    path = bundle_dir(digest)
    if store.exists(f"{path}/{MANIFEST}"):
        return Bundle(digest, read_manifest(str(store.local_path(path))), found.warnings)
    with tempfile.TemporaryDirectory(prefix="orch-bundle-") as staging:
        copies = _stage(Path(staging), manifest, found.files if source.deploy else {}, source.pickled)
        if source.deploy and _digest(manifest, copies, source.pickled) != digest:
            raise WorkflowError(f"{source.text} or what it imports was changed while it was being stored: try again")
        try:
            store.put_directory(path, staging)
        except StoreError:
            if not store.exists(f"{path}/{MANIFEST}"):  # else another process stored the same from another directory
                raise
    return Bundle(digest, manifest, found.warnings)


# What belongs to it -----------------------------------------------------------------------------------------------


def _survey(source: Source) -> tuple[Manifest, Found]:
    if source.pickled:
        return Manifest(pickled=True, paths=_own_paths()), Found(Path("/"))
    if source.module:
        return _survey_module(source)
    return _survey_file(source)


def _survey_file(source: Source) -> tuple[Manifest, Found]:
    file = _checked_file(source)
    found = imported_files(file.parent, file)
    _declare(found, file)
    return _manifest(source, found, file, module_name(str(file))), found


def _checked_file(source: Source) -> Path:
    file = Path(os.path.join(source.cwd, source.path))
    if file.is_dir():
        raise WorkflowError(f"{source.path} is a directory: name the workflow's file, or a module with -m")
    if not file.exists():
        close = "; to run a module by its name: orch run -m" if file.suffix != ".py" else ""
        raise WorkflowError(f"there is no file {source.path}{close}")
    if file.suffix != ".py":
        raise WorkflowError(f"{source.path} is not a Python file: its name must end in .py")
    return file.resolve()


def _survey_module(source: Source) -> tuple[Manifest, Found]:
    top = source.module.partition(".")[0]
    root, file = _find_module(source)
    found = imported_files(root, file) if file.parent == root else package_files(root, top)
    _declare(found, file)
    name = module_name(str(file)) if file.parent == root else source.module
    return _manifest(source, found, file if file.parent == root else None, name), found


def _find_module(source: Source) -> tuple[Path, Path]:
    """The directory that a module is imported from, and its file. Packages are not imported to find it."""
    parts = source.module.split(".")
    if not all(part.isidentifier() for part in parts):
        raise WorkflowError(f"-m {source.module}: that is not the name of a module (like package.main)")
    for directory in (source.cwd, *sys.path):
        root = Path(os.path.abspath(directory or source.cwd))
        base = root.joinpath(*parts)
        for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if file.is_file():
                return root, file
        if (root / parts[0] / "__init__.py").is_file():
            raise WorkflowError(f"-m {source.module}: the package {root / parts[0]} has no such module")
    raise WorkflowError(f"-m {source.module}: there is no such module in {source.cwd}, nor on Python's path")


def _manifest(source: Source, found: Found, file: Path | None, module: str) -> Manifest:
    base = CODE if source.deploy else str(found.root)
    return Manifest(
        module=module,
        file=f"{base}/{file.name}" if file is not None else "",
        function=source.function,
        paths=[base],
        original=str(found.root),
    )


def _declare(found: Found, file: Path) -> None:
    """Add what `@orch.workflow(include=…)` names; patterns start at the workflow's directory."""
    for line, pattern in declared_files(file):
        where = f"{file}:{line}: include={pattern!r}"
        if os.path.isabs(pattern) or ".." in Path(pattern).parts:
            raise WorkflowError(f"{where} leads out of the workflow's directory; orch.import_file takes any file")
        matches = sorted(file.parent.glob(pattern)) if pattern else []
        if not matches:
            raise WorkflowError(f"{where} matches no file in {file.parent}")
        for match in matches:
            for one in tree(match) if match.is_dir() else (match,):
                found.add(one)


# Copying ----------------------------------------------------------------------------------------------------------


def _digest(manifest: Manifest, files: dict[str, Path], pickled: bytes) -> str:
    total = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, original="")))
    total.update(f" {len(pickled)} ".encode() + pickled)
    for name, file in sorted(files.items()):
        total.update(f"{len(name)} {name} {os.access(file, os.X_OK)} {_hash(file)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _hash(file: Path) -> str:
    total = hashlib.sha256()
    with _reading(file), file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _stage(root: Path, manifest: Manifest, files: dict[str, Path], pickled: bytes) -> dict[str, Path]:
    """Copy everything below `root`; the copies."""
    copies = {}
    for name, file in files.items():
        copy = copies[name] = root / CODE / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py"):  # whoever imports it first would make that, for others to write to if umask says so
            (copy.parent / "__pycache__").mkdir(exist_ok=True)
        with _reading(file):
            shutil.copyfile(file, copy)
            copy.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
    (root / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    if pickled:
        (root / PICKLE).write_bytes(pickled)
    return copies


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkflowError(f"the workflow's file {file} cannot be read: {error.strerror}") from error


# Workflows of this process ----------------------------------------------------------------------------------------


def _source_of(workflow: Workflow[..., Any], *, deploy: bool) -> Source:
    module = sys.modules.get(workflow.__module__)
    file = getattr(module, "__file__", None) or ""
    named = "<locals>" not in workflow.__qualname__ and _lookup(module, workflow.__qualname__) is workflow
    if not named or not file.endswith(".py") or not os.path.isfile(file):
        return Source(pickled=_pickle(workflow), deploy=deploy, cwd=os.getcwd())
    name = main_module() if workflow.__module__ == "__main__" else workflow.__module__
    if "." in name:
        root = Path(file).resolve().parents[name.count(".") + (Path(file).name == "__init__.py")]
        return Source(module=name, function=workflow.__qualname__, deploy=deploy, cwd=str(root))
    return Source(path=os.path.abspath(file), function=workflow.__qualname__, deploy=deploy, cwd=os.getcwd())


def _lookup(module: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        module = getattr(module, part, None)
    return module


def _pickle(workflow: Workflow[..., Any]) -> bytes:
    from orch.authoring.pickling import dumps_by_value, explain

    try:
        data = dumps_by_value(workflow)
    except Exception as error:  # a user's __reduce__ may raise anything
        closure = explain("its globals and closure", _surroundings(workflow), error)
        raise WorkflowError(f"workflow {workflow.name} cannot be pickled: {closure}") from error
    return data


def _surroundings(workflow: Workflow[..., Any]) -> dict[str, Any]:
    import inspect

    found = inspect.getclosurevars(workflow.__wrapped__)
    return {**found.globals, **found.nonlocals}


def _own_paths() -> list[str]:
    """Directories on this process's path that are not the environment's: modules of a session come from there."""
    environment = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    paths = []
    for entry in sys.path:
        path = os.path.realpath(entry or os.getcwd())
        if os.path.isdir(path) and not any(path.startswith(f"{one}{os.sep}") for one in environment):
            paths.append(path)
    return list(dict.fromkeys(paths))
