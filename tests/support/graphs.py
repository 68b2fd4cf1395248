"""For tests of graphs: what a workflow function or a job leaves behind, with its relations readable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orch
from orch.attempt import MAKER, NewJob, Place
from orch.authoring.collect import Collected, collect
from orch.authoring.scope import Scope
from orch.work.context import Context, Who
from support.attempts import inline

WORKFLOW = Who(key="plan", run="run", job=0, attempt=1, label="workflow main")
RUNNING = Who(key="run.7.1", run="run", job=7, attempt=1, label="outer(1) [job 7]")


@orch.job
def job(name: str, *needs: Any) -> Any:
    """A job to be told from others by its name."""
    return (name, needs)


def named(name: str, *needs: Any, **options: Any) -> Any:
    """A job that is shown under that name."""
    return job.options(name=name, **options)(name, *needs)


def made(build: Callable[[], Any], who: Who = WORKFLOW) -> Collected:
    """What is left behind where `build` is the workflow function, or the body of a job."""
    context = Context(who, Place(store="/nowhere", scratch="/nowhere", host="here"), "/nowhere", lambda _: None)
    with context, Scope() as scope:
        value = build()
        return collect(value, scope.calls, inline, lambda file: Path(file).name)


def relations(jobs: list[NewJob]) -> dict[str, dict[str, Any]]:
    """What each job is to which others, by names; what is not there is left out."""

    def name(number: int) -> str:
        return "MAKER" if number == MAKER else jobs[number].name

    found: dict[str, dict[str, Any]] = {}
    for new in jobs:
        mine: dict[str, Any] = {}
        for field in ("needs", "parents", "follows"):
            if getattr(new, field):
                mine[field] = [name(number) for number in getattr(new, field)]
        if new.serves is not None:
            mine["serves"] = name(new.serves)
        found[new.name] = mine
    return found
