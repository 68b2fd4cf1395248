"""Dask distributed: a scheduler, and workers that stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import distributed
from common import AT_ONCE, Workload, append_line, by_itself, drive, killed, lines_of_life, simply_again


def same(number: int) -> int:
    """A job."""
    return number


def tree(size: int) -> int:
    """A job that makes two: how many there are from here down."""
    if size == 1:
        return 1
    with distributed.worker_client() as client:
        below = client.map(tree, [size // 2] * 2, pure=False)
        return 1 + int(sum(client.gather(below)))


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """A cluster on this host."""
    options = {"n_workers": AT_ONCE, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:

        def jobs(size: int) -> None:
            assert client.gather(client.map(same, range(size), pure=False)) == list(range(size))

        def chain(size: int) -> None:
            future = client.submit(same, 7, pure=False)
            for _ in range(size - 1):
                future = client.submit(same, future, pure=False)
            assert future.result() == 7

        def whole_tree(size: int) -> None:
            assert client.submit(tree, size, pure=False).result() == size

        def life(size: int) -> None:
            client.gather(client.map(append_line, [lines_of_life()] * size, pure=False))

        client.wait_for_workers(AT_ONCE)
        yield {"jobs": jobs, "chain": chain, "tree": whole_tree, "life": life}


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs"), "kill": killed(simply_again)})
