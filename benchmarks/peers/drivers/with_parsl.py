"""Parsl: threads of its own process (`threads`), or workers that stay (`htex`)."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

import parsl
from common import AT_ONCE, Workload, by_itself, drive, form, killed, lines_of_life, simply_again
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider

KEPT = os.path.join("..", "parsl")
"""Where it writes its checkpoints: a later life finds them there."""


def same(number: int) -> int:
    """A job."""
    return number


def line(path: str, _number: int) -> None:
    """A job that is kept in the checkpoints by its arguments. It travels as text: it can use nothing of this module."""
    with open(path, "a") as file:
        file.write("x\n")


def in_tree(value: list[Any]) -> int:
    """How many jobs made this. What makes jobs runs in Parsl's own process: hence one more, which a worker runs."""
    return 1 + sum(map(in_tree, value[1:]))


def executor() -> Any:
    """The workers, as the form says."""
    if form() == "threads":
        return ThreadPoolExecutor(max_threads=AT_ONCE)
    provider = LocalProvider(init_blocks=1, max_blocks=1)
    return HighThroughputExecutor(max_workers_per_node=AT_ONCE, address="127.0.0.1", provider=provider)


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """Parsl as it is set up by default, but for checkpoints, which are there to be killed."""
    checkpoints = sorted(glob.glob(os.path.join(KEPT, "*", "checkpoint")))
    config = parsl.Config(
        executors=[executor()],
        run_dir=KEPT,
        memoizer=BasicMemoizer(checkpoint_mode="task_exit", checkpoint_files=checkpoints),
        initialize_logging=False,
        strategy="none",
    )
    with parsl.load(config):
        job = parsl.python_app(same)
        kept = parsl.python_app(line, cache=True)

        def two_below(size: int) -> list[Any]:
            return [job(size), *(grow(size // 2) for _ in range(2 if size > 1 else 0))]

        grow = parsl.join_app(two_below)

        def jobs(size: int) -> None:
            assert [future.result() for future in [job(k) for k in range(size)]] == list(range(size))

        def chain(size: int) -> None:
            future = job(7)
            for _ in range(size - 1):
                future = job(future)
            assert future.result() == 7

        def tree(size: int) -> None:
            assert in_tree(grow(size).result()) == size

        def life(size: int) -> None:
            for future in [kept(lines_of_life(), number) for number in range(size)]:
                future.result()

        yield {"jobs": jobs, "chain": chain, "tree": tree, "life": life}


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs"), "kill": killed(simply_again)})
