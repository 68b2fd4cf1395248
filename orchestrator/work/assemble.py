"""The job that orch itself adds to a workflow which returns parts of values."""

from __future__ import annotations

from typing import Any

from orch.authoring.functions import job


@job
def result(value: Any) -> Any:
    """The workflow's value, put together in a job: a part that is missing fails this one, and so the run."""
    return value
