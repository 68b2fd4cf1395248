"""How many pilots are wanted, when they get nothing more, when another follows one that came to nothing: pure."""

from __future__ import annotations

import math

from orch.adapters.contract import Capacity
from orch.adapters.pilots.choice import PilotChoice
from orch.bus.events import Resources

LAST = 60.0
LAST_PART = 0.05
"""Before its end, a pilot is given nothing more: for so many seconds, or this part of its time if that is less."""

FIRST_PAUSE, MOST_PAUSE = 5.0, 600.0
"""Seconds until another pilot is asked for, after one that was of no use; twice as many after the next …"""


def share(wanted: Resources, place: Capacity) -> float:
    """Which part of a pilot an attempt takes: of those that ask for three of four cores, each takes a whole one."""
    return max(_part(wanted.cores, place.cores), _part(wanted.memory, place.memory), _part(wanted.disk, place.disk))


def _part(wanted: float, there: float) -> float:
    fitting = math.floor(there / wanted) if wanted else 0
    return 1.0 / fitting if fitting else float(wanted > 0)


def pilots_wanted(choice: PilotChoice, demand: float) -> int:
    """How many there should be, those that wait in the queue included. `demand`: the sum of all shares."""
    needed = math.ceil(demand - 1e-6)
    return max(choice.min, min(choice.nodes, needed))


def pause_after(failures: int) -> float:
    """Seconds until another is asked for, after so many in a row that were of no use."""
    return min(FIRST_PAUSE * 2.0 ** (failures - 1), MOST_PAUSE) if failures else 0.0


def last_part(time: float) -> float:
    """Seconds before its end in which a pilot of that time is given nothing more."""
    return min(LAST, LAST_PART * time)


def too_long(wanted: Resources, choice: PilotChoice) -> str:
    """Why an attempt can never be given to a pilot; empty: it can."""
    if choice.time and wanted.walltime > choice.time - last_part(choice.time):
        return (
            f"its wall time ({wanted.walltime:g} s) is more than a pilot has ({choice.time:g} s, less what it needs to "
            "end): let pilots have more with time= in --pilot"
        )
    return ""
