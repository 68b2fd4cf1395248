"""orch runs workflows: graphs of jobs that grow while they run, on whatever can run them, without losing anything.

    @orch.job                 makes a function's calls jobs           orch.command     a job that runs a program
    @orch.workflow            marks the function that begins a run    orch.context()   what a running job can ask
    orch.run(main, n=20)      runs a workflow and gives its value     orch.replay      statuses from a log alone
    orch.Job, orch.Service    classes to derive jobs and services     orch.promised    an option that depends on values

Everything is imported when it is first used: workers must start fast, and need little of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orch.api import Orchestrator, Run, run
    from orch.authoring.commands import command
    from orch.authoring.functions import JobFunction, job
    from orch.authoring.nodes import Job, as_job
    from orch.authoring.promises import promised
    from orch.authoring.services import Service
    from orch.authoring.workflows import Workflow, workflow
    from orch.bundle import Source
    from orch.errors import (
        AdapterError,
        CallError,
        Fenced,
        GraphError,
        JobError,
        LogDamaged,
        LogTrouble,
        NoSuchFile,
        NoSuchJob,
        NoSuchRun,
        OrchError,
        ResourceError,
        RunBusy,
        RunCancelled,
        RunExists,
        RunFailed,
        RunStopped,
        SizeError,
        StoreError,
        SystemTrouble,
        UnknownAdapter,
        UnknownStore,
        UserError,
        WorkflowError,
    )
    from orch.files import DirRef, FileRef, export_file, import_file
    from orch.history import replay
    from orch.results import CommandResult
    from orch.state.status import JobStatus
    from orch.work.context import context

__version__ = "0.1.0"

__all__ = [
    "AdapterError",
    "CallError",
    "CommandResult",
    "DirRef",
    "Fenced",
    "FileRef",
    "GraphError",
    "Job",
    "JobError",
    "JobFunction",
    "JobStatus",
    "LogDamaged",
    "LogTrouble",
    "NoSuchFile",
    "NoSuchJob",
    "NoSuchRun",
    "OrchError",
    "Orchestrator",
    "ResourceError",
    "Run",
    "RunBusy",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunStopped",
    "Service",
    "SizeError",
    "Source",
    "StoreError",
    "SystemTrouble",
    "UnknownAdapter",
    "UnknownStore",
    "UserError",
    "Workflow",
    "WorkflowError",
    "__version__",
    "as_job",
    "command",
    "context",
    "export_file",
    "import_file",
    "job",
    "promised",
    "replay",
    "run",
    "workflow",
]

_HOMES = {
    "CommandResult": "orch.results",
    "DirRef": "orch.files",
    "FileRef": "orch.files",
    "Job": "orch.authoring.nodes",
    "JobFunction": "orch.authoring.functions",
    "JobStatus": "orch.state.status",
    "Orchestrator": "orch.api",
    "Run": "orch.api",
    "Source": "orch.bundle",
    "Service": "orch.authoring.services",
    "Workflow": "orch.authoring.workflows",
    "as_job": "orch.authoring.nodes",
    "command": "orch.authoring.commands",
    "context": "orch.work.context",
    "export_file": "orch.files",
    "import_file": "orch.files",
    "job": "orch.authoring.functions",
    "promised": "orch.authoring.promises",
    "replay": "orch.history",
    "run": "orch.api",
    "workflow": "orch.authoring.workflows",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'orch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "orch.errors")), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
