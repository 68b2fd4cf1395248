"""soma-workflow in light mode: its engine is in the process, its data base a file of SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import pairwise

from common import AT_ONCE, Workload, by_itself, directory, drive
from soma_workflow.client import Helper, Job, Workflow, WorkflowController


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """A controller with an engine of its own."""
    with directory("engine") as place:
        controller = WorkflowController(isolated_light_mode=str(place))
        controller.scheduler_config.set_proc_nb(AT_ONCE)

        def all_of(size: int, *, linked: bool) -> None:
            jobs = [Job(command=["true"], name=str(number)) for number in range(size)]
            links = list(pairwise(jobs)) if linked else []
            number = controller.submit_workflow(Workflow(jobs=jobs, dependencies=links), name="bench")
            Helper.wait_workflow(number, controller)
            assert not Helper.list_failed_jobs(number, controller)

        yield {"jobs": lambda size: all_of(size, linked=False), "chain": lambda size: all_of(size, linked=True)}
        controller.stop_engine()


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs")})
