"""The tree of public exceptions, and the exit code that the command gives for each.

OrchError
├── UserError              2   the command line, the workflow or its input is wrong
│   ├── SizeError              a size or duration that cannot be read
│   ├── WorkflowError          the workflow cannot be imported, planned or pickled
│   │   └── CallError          a job function was called with arguments that do not fit it
│   ├── GraphError             a cycle, a job passed to itself …
│   ├── ResourceError          more than this machine can ever give
│   └── NoSuchRun, RunExists, NoSuchJob, UnknownAdapter, UnknownStore
├── RunFailed              1   the run ended, and jobs failed
├── RunCancelled           5
├── RunStopped           130   ended on Ctrl-C or `orch stop`; can be carried on
├── RunBusy                3   another leader is alive
├── Fenced                 3   a later leader has taken over
├── LogDamaged             4   the log is broken before its tail
│   └── LogTooNew              a later version of orch wrote it
└── SystemTrouble          6   disk full, store gone, batch system gone
    ├── LogTrouble             the log cannot be written or read
    ├── StoreError
    ├── NoSuchFile
    └── AdapterError
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orch.bus.errors import Fenced, LogDamaged, LogTooNew, LogTrouble, OrchError, RunBusy


class UserError(OrchError):
    """The command line, the workflow or its input is wrong; nothing was started."""

    exit_code = 2


class SizeError(UserError, ValueError):
    """A size or a duration that cannot be read."""


class WorkflowError(UserError):
    """The workflow cannot be found, imported, planned or pickled."""


class CallError(WorkflowError, TypeError):
    """A job function was called with arguments that do not fit its signature."""


class GraphError(UserError):
    """The jobs cannot be put in an order: a cycle, or a job that waits for itself."""


class ResourceError(UserError):
    """A job asks for more than can ever be given."""


class NoSuchRun(UserError):
    """The store has no such run."""


class NoSuchJob(UserError):
    """The run has no such job."""


class RunExists(UserError):
    """The run id is taken."""


class UnknownAdapter(UserError):
    """No adapter of that name is installed."""


class UnknownStore(UserError):
    """No store for that scheme is installed."""


class JobError(OrchError):
    """Raised inside a job: something asked of the context or of a value cannot be done."""


class RunFailed(OrchError):
    """The run ended and jobs failed; the message has each of them with the end of its log.

    `failures` has the same for programs: `orch.leader.failures.Failure` records, a job each.
    """

    exit_code = 1

    def __init__(self, message: str, failures: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.failures = list(failures)


class RunCancelled(OrchError):
    """The run was cancelled."""

    exit_code = 5


class RunStopped(OrchError):
    """The run was stopped and can be carried on."""

    exit_code = 130


class SystemTrouble(OrchError):
    """Disk, store, agent or batch system failed us. The log replays; the run can be carried on."""

    exit_code = 6


class StoreError(SystemTrouble):
    """The store cannot be read or written."""


class NoSuchFile(StoreError):
    """The store has no such file."""


class AdapterError(SystemTrouble):
    """The batch system, or the agent, is gone for good."""


__all__ = [
    "AdapterError",
    "CallError",
    "Fenced",
    "GraphError",
    "JobError",
    "LogDamaged",
    "LogTooNew",
    "LogTrouble",
    "NoSuchFile",
    "NoSuchJob",
    "NoSuchRun",
    "OrchError",
    "ResourceError",
    "RunBusy",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunStopped",
    "SizeError",
    "StoreError",
    "SystemTrouble",
    "UnknownAdapter",
    "UnknownStore",
    "UserError",
    "WorkflowError",
]
