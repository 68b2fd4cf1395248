"""A workflow of jobs that do nothing: what is left is what a job costs."""

from __future__ import annotations

from typing import Any

import orch


@orch.job
def nothing(number: int) -> None:
    """Do it."""


@orch.workflow
def main(form: str = "fork", count: int = 1) -> Any:
    """COUNT jobs of FORM: command, fork or pool."""
    if form == "command":
        return [orch.command(["true"]) for _ in range(count)]
    job = nothing.options(isolation=form)
    return [job(number) for number in range(count)]
