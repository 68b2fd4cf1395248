"""How much work something is: counted in lines of Python, which is the same on every machine and every day."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(work: Callable[[], object]) -> int:
    """Run `work` and count the lines that it executes (each round of a loop counts), in all functions it calls."""
    count = 0

    def local(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return local

    before = sys.gettrace()
    sys.settrace(lambda _frame, _event, _arg: local)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
