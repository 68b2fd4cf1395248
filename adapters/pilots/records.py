"""What is known of each pilot of a run, in this process and from the files of earlier leaders."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import NamedTuple

from orch.worker.pilot_files import PilotFiles
from orch.worker.spool import WORKER, Spool, Ticket

_MARK = "pilot-"


@dataclasses.dataclass(eq=False)
class Pilot:
    """One that was asked for. Times are monotonic seconds; `since`: when it was.

    `node`      where it runs; `old`: an earlier leader has asked for it
    `began`     a worker has it; `was_up`: it was connected; `draining`: it gets nothing more; `over`: it has ended
    `drain_at`  when it is to get nothing more; `idle_since`: it had something to do until then
    """

    name: str
    key: str
    since: float
    node: str = ""
    old: bool = False
    began: bool = False
    was_up: bool = False
    draining: bool = False
    given_back: bool = False
    over: bool = False
    drain_at: float = math.inf
    idle_since: float = 0.0

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.name} on {self.node}" if self.node else self.name


class Known(NamedTuple):
    """One of an earlier leader. `began`: a worker has or had it; `live`: as far as files tell it is not over."""

    name: str
    key: str
    began: bool
    live: bool


def pilot_key(run: str, name: str) -> str:
    """What stands for a pilot where an attempt's key does."""
    return f"{run}.{name}"


def is_pilot(key: str) -> bool:
    """Is it a pilot's key? Those of attempts end in a number."""
    return key.rpartition(".")[2].startswith(_MARK)


def read_known(spool: Spool, files: PilotFiles) -> list[Known]:
    """All that are, or have left something. Blocking; raises `OSError`."""
    begun, found = set(files.names()), dict[str, Known]()
    for submission in spool.submissions():
        with contextlib.suppress(OSError, ValueError):  # it is being cleared up, or was never whole
            for index, key in enumerate(spool.header(submission).keys, 1):
                if is_pilot(key):
                    name = key.rpartition(".")[2]
                    claim = spool.claimed(Ticket(submission, index))
                    began = name in begun or (claim is not None and claim.by == WORKER)
                    found[name] = Known(name, key, began, live=True)
    for name in sorted(begun.difference(found)):
        found[name] = Known(name, pilot_key(spool.run, name), began=True, live=False)
    return list(found.values())
