"""The standard library's pool of processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator, Mapping

from common import AT_ONCE, Workload, append_line, by_itself, drive, killed, lines_of_life, simply_again


def nothing(number: int) -> int:
    """A job."""
    return number


@contextlib.contextmanager
def session() -> Iterator[Mapping[str, Workload]]:
    """A warm pool. A job cannot make jobs."""
    with concurrent.futures.ProcessPoolExecutor(AT_ONCE) as pool:

        def jobs(size: int) -> None:
            assert [future.result() for future in [pool.submit(nothing, k) for k in range(size)]] == list(range(size))

        def chain(size: int) -> None:
            for number in range(size):
                assert pool.submit(nothing, number).result() == number

        def life(size: int) -> None:
            list(pool.map(append_line, [lines_of_life()] * size))

        yield {"jobs": jobs, "chain": chain, "life": life}


if __name__ == "__main__":
    drive(session, {"one": by_itself("jobs"), "kill": killed(simply_again)})
