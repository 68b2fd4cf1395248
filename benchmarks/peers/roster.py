"""Who takes part, how each runs a job, and how many jobs it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QUICK = {"jobs": (200, 1200), "chain": (50, 250), "one": (1,), "kill": (1000,), "tree": (511,)}
"""Sizes of workloads. Where there are two, the difference counts: what comes once a run is in neither."""

SLOW = {"jobs": (20, 120), "chain": (20, 70), "one": (1,), "kill": (200,), "tree": (511,)}
"""For engines that take 10 ms for a job, or more. The tree is last: what takes too long takes no time from others."""


@dataclass(frozen=True)
class Peer:
    """An engine, in one of the forms in which it runs jobs.

    `package`  what pip installs; "": the standard library; None: our own environment
    `how`      how it runs a job; `keeps`: what it has written when it calls a job done
    `sizes`    of the workloads that it can run
    """

    name: str
    form: str
    driver: str
    package: str | None
    how: str
    keeps: str
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: QUICK)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name}, {self.form}" if self.form else self.name


def without(sizes: Mapping[str, tuple[int, ...]], *names: str) -> dict[str, tuple[int, ...]]:
    """Sizes of the other workloads."""
    return {name: size for name, size in sizes.items() if name not in names}


SYNCED = "each step, synced"
PEERS = (
    Peer("orch", "pool", "orch", None, "Python, warm worker", SYNCED),
    Peer("orch", "fork", "orch", None, "Python, process", SYNCED),
    Peer("orch", "command", "orch", None, "program", SYNCED, without(QUICK, "tree")),
    Peer("ProcessPoolExecutor", "", "executor", "", "Python, warm worker", "nothing", without(QUICK, "tree")),
    Peer("asyncio subprocess loop", "", "asyncio", "", "program", "nothing", without(QUICK, "tree", "kill")),
    Peer("Parsl", "threads", "parsl", "parsl", "Python, thread", "appended"),
    Peer("Parsl", "htex", "parsl", "parsl", "Python, warm worker", "appended"),
    Peer("Dask", "", "dask", "distributed", "Python, warm worker", "nothing"),
    Peer("Ray", "", "ray", "ray", "Python, warm worker", "nothing"),
    Peer("HyperQueue", "command", "hyperqueue", "hyperqueue", "program", "nothing", without(QUICK, "tree", "kill")),
    Peer("soma-workflow", "", "soma", "soma-workflow", "program", "SQLite", without(SLOW, "tree", "kill")),
    Peer("redun", "", "redun", "redun", "Python, thread", "SQLite", SLOW | {"kill": (100,)}),
    Peer("Snakemake", "", "snakemake", "snakemake", "shell", "files, not synced", without(SLOW, "tree")),
    Peer("Toil", "", "toil", "toil", "Python, process", "files, not synced",
         {"jobs": (5, 25), "chain": (20, 70), "one": (1,), "kill": (30,)}),
)  # fmt: skip
