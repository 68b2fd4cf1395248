"""What a bundle says about itself: `manifest.json` in `bundles/DIGEST/`."""

from __future__ import annotations

import keyword
import os
import sys

import msgspec

from orch.errors import WorkflowError

MANIFEST = "manifest.json"
CODE = "code"
PICKLE = "workflow.pickle"


_TAKEN = frozenset({*sys.stdlib_module_names, "orch", "msgspec", "cloudpickle", "anyio", "typing_extensions"})


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the workflow is loaded. Paths are relative to the bundle, or absolute where code was not deployed.

    `module`    the name under which the workflow's module is imported
    `file`      its file; empty: it is found by its name (a module inside a package)
    `function`  qualified name of the workflow function; empty: the one that is there
    `paths`     directories to import from
    `pickled`   the workflow was pickled by value (`workflow.pickle`): it came from a notebook, say
    `original`  the directory that `code` was copied from
    """

    module: str = ""
    file: str = ""
    function: str = ""
    paths: list[str] = []
    pickled: bool = False
    original: str = ""
    format: int = 1

    @property
    def stored(self) -> bool:
        """Is the code in the bundle? Else it is read from where it was written, and may change."""
        return self.pickled or not any(map(os.path.isabs, self.paths))


def read_manifest(bundle: str) -> Manifest:
    """The manifest of the bundle in that directory. Raises `WorkflowError`."""
    path = os.path.join(bundle, MANIFEST)
    try:
        with open(path, "rb") as file:
            manifest = msgspec.json.decode(file.read(), type=Manifest)
    except (OSError, ValueError, RecursionError) as error:
        raise WorkflowError(f"the workflow's code cannot be read: {path}: {error}") from error
    if manifest.format != 1:
        raise WorkflowError(f"{path} has format {manifest.format}, which a newer version of orch has written")
    return manifest


def module_name(file: str) -> str:
    """The name under which a workflow's file is imported: its stem, unless others need that, or it is no name."""
    stem = os.path.splitext(os.path.basename(file))[0]
    if stem.isidentifier() and not keyword.iskeyword(stem) and stem not in _TAKEN and stem != "__main__":
        return stem
    return "workflow_" + "".join(letter if letter.isalnum() else "_" for letter in stem)


def main_module() -> str:
    """The name under which this process's `__main__` is imported elsewhere; empty if it has no file."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return module_name(file) if file else ""
