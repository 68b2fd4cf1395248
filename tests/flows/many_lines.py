"""Many jobs that say that they run, each in a file of its own, and may wait for a gate."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orch


@orch.job
def line(folder: str, number: int, gate: str) -> int:
    """Note where it runs, and its host."""
    with open(f"{folder}/ran.{number}", "a", encoding="utf-8") as file:
        file.write(f"{os.environ.get('SLURMD_NODENAME', '')}\n")
    while gate and not Path(gate).exists():
        time.sleep(0.1)
    return number


@orch.workflow
def many(folder: str, jobs: int = 10, gate: str = "") -> list[int]:
    """So many of them."""
    return [line(folder, number, gate) for number in range(jobs)]
