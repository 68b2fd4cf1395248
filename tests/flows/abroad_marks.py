"""Jobs that leave a mark where they have begun: a file named after their number, attempt, host and process."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import orch


@orch.job
def mark(folder: str, number: int) -> int:
    me = orch.context()
    Path(folder, f"{number}.{me.who.attempt}.{socket.gethostname()}.{os.getpid()}").touch()
    time.sleep(0.5)
    return number


@orch.job
def together(numbers: list[int]) -> list[int]:
    return numbers


@orch.workflow
def slow_marks(folder: str, count: int) -> Any:
    return together([mark(folder, number) for number in range(count)])
