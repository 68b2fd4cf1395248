"""The machine under the engine: files, time, threads and names, as one object that is handed in.

Nothing that leads a run touches the machine in any other way; so a whole leader runs just as well on a simulated one,
in virtual time, on a disk that loses what was not synced. ruff's banned-api keeps the real ones out of the core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import anyio

from orch.bus.files import REAL, Files
from orch.bus.hands import hands
from orch.bus.identity import Identity, utc_now, whoami

Result = TypeVar("Result")


class Offload(Protocol):
    """Runs something that blocks, while the loop goes on. What it raises is raised here."""

    async def __call__(self, function: Callable[..., Result], *args: Any) -> Result:
        """The function's result."""
        ...


async def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """In a thread of its own kind: slow disks do not use up the threads that the loop has for all."""
    return await hands().run(function, *args)


@dataclasses.dataclass(frozen=True)
class Machine:
    """`clock`: UTC as events have it. `whoami`: this process. `sleep`: seconds."""

    files: Files = REAL
    clock: Callable[[], str] = utc_now
    whoami: Callable[[], Identity] = whoami
    offload: Offload = in_thread
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


HERE = Machine()
"""The real one."""
