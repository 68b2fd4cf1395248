"""Keeps a workflow's module from starting runs while it is being imported on behalf of a run."""

from __future__ import annotations

from orch.errors import WorkflowError

_busy = ""


def set_busy(what: str) -> None:
    """This process is at `what` for a run ("importing …"); empty: no more."""
    global _busy  # noqa: PLW0603 - a fact about the process
    _busy = what


def refuse_nested(call: str) -> None:
    """Raise `WorkflowError` if `call` ("orch.run") would start a run in a process that prepares one."""
    if _busy:
        raise WorkflowError(
            f"{call} was called while {_busy} for a run. A script that starts runs of its own workflow must do so "
            f'under: if __name__ == "__main__":'
        )
