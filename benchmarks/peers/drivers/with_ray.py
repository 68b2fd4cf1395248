"""Ray: a cluster on this host, with workers that stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from common import AT_ONCE, Workload, append_line, by_itself, drive, killed, lines_of_life, simply_again


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """Ray, without its dashboard and without telling anybody of its use."""
    ray.init(num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False)
    same = ray.remote(lambda number: number)
    line = ray.remote(append_line)

    def two_below(size: int) -> list[Any]:
        return [grow.remote(size // 2) for _ in range(2 if size > 1 else 0)]

    grow = ray.remote(two_below)

    def jobs(size: int) -> None:
        assert ray.get([same.remote(number) for number in range(size)]) == list(range(size))

    def chain(size: int) -> None:
        value = same.remote(7)
        for _ in range(size - 1):
            value = same.remote(value)
        assert ray.get(value) == 7

    def tree(size: int) -> None:
        level, count = [grow.remote(size)], 0
        while level:
            count += len(level)
            level = [below for made in ray.get(level) for below in made]
        assert count == size

    def life(size: int) -> None:
        ray.get([line.remote(lines_of_life()) for _ in range(size)])

    yield {"jobs": jobs, "chain": chain, "tree": tree, "life": life}
    ray.shutdown()


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs"), "kill": killed(simply_again)})
