"""Import a workflow from its bundle: in planners and templates, never in the leader."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from types import ModuleType
from typing import Any

from orch.authoring.functions import JobFunction
from orch.authoring.workflows import Workflow
from orch.errors import WorkflowError
from orch.work.guard import set_busy
from orch.work.manifest import CODE, PICKLE, Manifest, read_manifest
from orch.work.traces import rename_files, short_trace, shown_name


class LoadedWorkflow:
    """A workflow's code, imported into this process."""

    def __init__(self, manifest: Manifest, module: ModuleType | None, pickled: Any = None) -> None:
        self.manifest = manifest
        self.module = module
        self._pickled = pickled

    @property
    def file(self) -> str:
        """The workflow's file as the user knows it."""
        if self.module is None:
            return "the notebook or session"
        return shown_name(getattr(self.module, "__file__", None) or self.module.__name__)

    def workflow(self) -> Workflow[..., Any]:
        """The workflow function. Raises `WorkflowError` if there is none, or are several."""
        if self.module is None:
            return _checked(self._pickled, "what was given")
        if self.manifest.function:
            return _checked(self._named(self.module), self.manifest.function)
        found = _workflows(self.module)
        if len(found) == 1:
            return found[0]
        if not found:
            _refuse_below_main(self.module, self.file)
            raise WorkflowError(f"{self.file} has no workflow: no function is decorated with @orch.workflow")
        names = ", ".join(f"{one.name} (line {one.__wrapped__.__code__.co_firstlineno})" for one in found)
        raise WorkflowError(f"{self.file} has {len(found)} workflows, and a file can have one only: {names}")

    def _named(self, module: ModuleType) -> Any:
        try:
            return _attribute(module, self.manifest.function, self.file)
        except WorkflowError:
            _refuse_below_main(module, self.file)
            raise

    @property
    def renamed(self) -> dict[str, str]:
        """Modules that had another name where the run was started."""
        return {"__main__": self.manifest.module} if self.manifest.module else {}


def load(bundle: str) -> LoadedWorkflow:
    """Import the workflow of the bundle in that directory.

    Raises `WorkflowError` with the user's own traceback. The standard library, and what this process has imported
    already, is never shadowed by a file of the user's; the packages of the environment can be, as in any script.
    """
    manifest = read_manifest(bundle)
    if manifest.original:
        rename_files(os.path.join(bundle, CODE), manifest.original)
    _extend_path([os.path.join(bundle, path) for path in manifest.paths])
    set_busy("importing the workflow")
    try:
        if manifest.pickled:
            return LoadedWorkflow(manifest, None, _unpickle(os.path.join(bundle, PICKLE)))
        return LoadedWorkflow(manifest, _import(bundle, manifest))
    except BaseException as error:  # SystemExit and KeyboardInterrupt of user code are the user's, too
        raise WorkflowError(_failure(bundle, manifest, error)) from error
    finally:
        set_busy("")


def _import(bundle: str, manifest: Manifest) -> ModuleType:
    if not manifest.file:
        return importlib.import_module(manifest.module)
    file = os.path.join(bundle, manifest.file)
    spec = importlib.util.spec_from_file_location(manifest.module, file)
    if spec is None or spec.loader is None:
        raise WorkflowError(f"{shown_name(file)} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[manifest.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # user code may raise anything; a module half made is none
        del sys.modules[manifest.module]
        raise
    return module


def _unpickle(file: str) -> Any:
    import cloudpickle  # type: ignore[import-untyped]  # has no types

    with open(file, "rb") as opened:
        return cloudpickle.load(opened)


def _failure(bundle: str, manifest: Manifest, error: BaseException) -> str:
    name = shown_name(os.path.join(bundle, manifest.file)) if manifest.file else manifest.module or "the workflow"
    return f"{name} cannot be imported:\n{short_trace(error)}"


def _extend_path(paths: list[str]) -> None:
    """The standard library first, then the user's own files, then what the environment has."""
    library = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    standard = [path for path in sys.path if _is_standard(path, library)]
    rest = [path for path in sys.path if path not in standard and path not in paths]
    sys.path[:] = [*standard, *paths, *rest]
    importlib.invalidate_caches()


def _is_standard(path: str, library: set[str]) -> bool:
    real = os.path.realpath(path)
    return real in library or path.endswith(".zip") or os.path.join(os.path.dirname(real), "lib-dynload") == real


def _refuse_below_main(module: ModuleType, file: str) -> None:
    """Say so if a workflow stands where only a script that is started itself would define it."""
    import ast

    try:
        with open(module.__file__ or "", "rb") as opened:
            tree = ast.parse(opened.read())
    except (OSError, SyntaxError, ValueError):
        return
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    for block in blocks:
        for node in ast.walk(block):
            if isinstance(node, ast.FunctionDef) and any("workflow" in ast.unparse(one) for one in node.decorator_list):
                raise WorkflowError(
                    f"{file}, line {node.lineno}: workflow {node.name} is defined below `if {ast.unparse(block.test)}:`"
                    f", so it is not there when the file is imported: move it to the top level of the file"
                )


def _attribute(module: ModuleType, qualname: str, file: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise WorkflowError(f"{file} has no {qualname!r} (any more)") from None
    return found


def _checked(found: Any, name: str) -> Workflow[..., Any]:
    if isinstance(found, Workflow):
        return found
    kind = "a job function" if isinstance(found, JobFunction) else f"a {type(found).__name__}"
    raise WorkflowError(f"{name} is {kind}, and no workflow: decorate a function with @orch.workflow")


def _workflows(module: ModuleType) -> list[Workflow[..., Any]]:
    """Those defined in this module: what it imports from others does not count."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Workflow)}
    return [one for one in found.values() if one.__module__ == module.__name__]
