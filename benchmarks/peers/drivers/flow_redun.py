"""The workloads for redun, which reads annotations as they stand: hence no `annotations` from the future."""

from typing import Any

from common import append_line
from redun import task

redun_namespace = "bench"


@task()
def same(number: int) -> int:
    """A job."""
    return number


@task()
def line(number: int) -> int:
    """A job whose runs are counted."""
    append_line("lines")
    return number


@task()
def jobs(size: int) -> Any:
    """Jobs apart."""
    return [same(number) for number in range(size)]


@task()
def life(size: int) -> Any:
    """Jobs apart that are counted."""
    return [line(number) for number in range(size)]


@task()
def chain(size: int) -> Any:
    """Each takes the value of the one before it; adding one keeps them from being the same call."""
    number = same(0)
    for _ in range(size - 1):
        number = same(number + 1)
    return number


@task()
def grow(size: int, place: int) -> Any:
    """A job that makes two; its place keeps it from being the same call as another."""
    return [grow(size // 2, 2 * place + side) for side in range(2 if size > 1 else 0)]


@task()
def tree(size: int) -> Any:
    """The top."""
    return grow(size, 1)
