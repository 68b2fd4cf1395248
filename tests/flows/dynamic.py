"""Jobs that add jobs: a recursion, tail calls, parts of values."""

from typing import Any

import orch


@orch.job
def add(x: int, y: int) -> int:
    return x + y


@orch.job
def fib(n: int) -> int:
    if n < 2:
        return n
    return add(fib(n - 1), fib(n - 2))


@orch.job
def pair(n: int) -> dict[str, Any]:
    return {"n": n, "fib": fib(n), "list": [fib(1), n]}


@orch.workflow
def main(n: int = 5) -> dict[str, Any]:
    made = pair(n)
    return {"whole": made, "part": add(made["fib"], made["list"][1])}
