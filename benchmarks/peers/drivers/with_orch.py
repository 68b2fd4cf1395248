"""orch, as it comes: with `--durability always`, and all output captured. Its agent is up where an engine is to be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio.from_thread
from common import Workload, beside, call, count, drive, form, fresh, killed
from flow_orch import main

from orch.api import Orchestrator

FLOW = str(Path(__file__).with_name("flow_orch.py"))


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """One orchestrator for all runs."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Orchestrator("store")) as orchestrator,
    ):

        async def run(what: str, size: int) -> Any:
            handle = await orchestrator.start(main, what=what, form=form(), size=size)
            return await handle.result()

        def jobs(size: int) -> None:
            assert len(portal.call(run, "jobs", size)) == size

        def chain(size: int) -> None:
            assert portal.call(run, "chain", size) is not None

        def tree(size: int) -> None:
            assert count(portal.call(run, "tree", size)) == size

        yield {"jobs": jobs, "chain": chain} | ({} if form() == "command" else {"tree": tree})


def command(what: str, size: int, run: str) -> list[str]:
    """What a user types."""
    options = ["--what", what, "--form", form(), "--size", str(size)]
    return [beside("orch"), "run", "--quiet", "--run-id", run, FLOW, *options]


def one(size: int) -> None:
    """In a new store, for which an agent has to be started."""
    place = fresh("one")
    call(*command("jobs", size, "one"), ORCH_STORE=str(place / "store"), ORCH_WORK_DIR=str(place / "work"))


def lives(_place: Path, size: int) -> list[list[str]]:
    """Started, and carried on."""
    return [command("life", size, "life"), [beside("orch"), "replay", "--quiet", "--restart", "life"]]


if __name__ == "__main__":
    os.environ["ORCH_WORK_DIR"] = os.path.abspath("orch-work")
    drive(session, {"one": one, "kill": killed(lives)})
