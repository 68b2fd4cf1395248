"""Which attempt goes to which host: pure.

An attempt goes where it fits now, to the host that has most left. What is to be done next waits on the host already, so
that no slot idles while the leader is told of an end and answers: as many attempts as end there in a second, and one
at least. The rest waits in one line for all hosts. The first in it that fits nowhere holds a host:
nothing that comes after it goes there, so that it gets its room some time. Once there is no line, and one host has room
for what waits on another, that is taken back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from orch.adapters.contract import Capacity, fits
from orch.agent import devices
from orch.bus.events import Accelerator, Resources


@dataclasses.dataclass
class Room:
    """What is left on a host. `ahead`: how many attempts may be handed over beyond what fits; `left`: seconds."""

    total: Capacity
    ahead: int = 0
    cores: float = 0.0
    memory: int = 0
    disk: int = 0
    accelerators: list[Accelerator] = dataclasses.field(default_factory=list)
    left: float = math.inf

    def use(self, wanted: Resources) -> None:
        """An attempt is there that wants this."""
        self.cores += wanted.cores
        self.memory += wanted.memory
        self.disk += wanted.disk
        self.accelerators += wanted.accelerators

    def give_back(self, wanted: Resources) -> None:
        """It is not there any more."""
        self.cores -= wanted.cores
        self.memory -= wanted.memory
        self.disk -= wanted.disk
        for each in wanted.accelerators:
            self.accelerators.remove(each)

    @property
    def over(self) -> bool:
        """Is there more than fits at once?"""
        return not self.has(Resources(cores=0)) or bool(devices.lacking(self.total.accelerators, self.accelerators))

    def has(self, wanted: Resources) -> bool:
        """Does it fit beside what is there?"""
        total = self.total
        return (
            self.cores + wanted.cores <= total.cores
            and self.memory + wanted.memory <= total.memory
            and self.disk + wanted.disk <= total.disk
            and wanted.walltime <= self.left
            and not (
                wanted.accelerators and devices.lacking(total.accelerators, wanted.accelerators, self.accelerators)
            )
        )

    def could_have(self, wanted: Resources) -> bool:
        """Would it fit if nothing else were there?"""
        return wanted.walltime <= self.left and not fits(wanted, self.total)

    @property
    def load(self) -> float:
        """How full it is; more than 1 where attempts wait."""
        return self.cores / self.total.cores if self.total.cores else 1.0


def choose(waiting: Iterable[Resources], rooms: Sequence[Room], limit: Room | None = None) -> list[tuple[int, int]]:
    """Of those in the line, which go where now: positions in both. `limit`: what all hosts together may be used for."""
    free = list(range(len(rooms)))
    chosen: list[tuple[int, int]] = []
    for position, wanted in enumerate(waiting):
        if not free or (limit is not None and not limit.has(wanted)):
            break
        place = _place(wanted, rooms, free)
        if place is not None:
            chosen.append((position, place))
            rooms[place].use(wanted)
            if limit is not None:
                limit.use(wanted)
        elif able := [number for number in free if rooms[number].could_have(wanted)]:
            free.remove(min(able, key=lambda number: rooms[number].load))
    return chosen


def _place(wanted: Resources, rooms: Sequence[Room], free: list[int]) -> int | None:
    fitting = [number for number in free if rooms[number].has(wanted)]
    if fitting:
        return min(fitting, key=lambda number: rooms[number].load)
    behind = [number for number in free if rooms[number].ahead > 0 and rooms[number].could_have(wanted)]
    if not behind:
        return None
    place = min(behind, key=lambda number: rooms[number].load)
    rooms[place].ahead -= 1
    return place


def level(idle: Sequence[Sequence[Resources]], rooms: Sequence[Room]) -> list[tuple[int, int]]:
    """Of what waits on each host (`idle`), what another has room for: the place, and the position there."""
    found: list[tuple[int, int]] = []
    for place, each in enumerate(idle):
        for position, wanted in enumerate(each):
            if not rooms[place].over:
                break
            other = next((number for number, room in enumerate(rooms) if number != place and room.has(wanted)), None)
            if other is not None:
                rooms[other].use(wanted)
                rooms[place].give_back(wanted)
                found.append((place, position))
    return found
