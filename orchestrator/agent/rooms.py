"""Work directories: where attempts of a run have their scratch directories, and where their output is caught.

An agent lives in one work directory, and serves runs that asked for others as well.
"""

from __future__ import annotations

from orch.agent.captures import Captures
from orch.agent.paths import deferred_directory
from orch.agent.scratch import Scratch
from orch.attempt import Place


class Room:
    """One runtime directory (see `orch.agent.paths`), as attempts use it."""

    def __init__(self, scratch: Scratch, captures: Captures, place: Place) -> None:
        self.scratch = scratch
        self.captures = captures
        self.place = place

    @classmethod
    def of_agent(cls, runtime: str, store: str, host: str) -> Room:
        """That of the host's agent. Raises `OSError` if it cannot be used."""
        scratch = Scratch(runtime)
        return cls(scratch, Captures(runtime), Place(store, scratch.root, host, deferred_directory(store, host)))


class Rooms:
    """All that an agent has in use."""

    def __init__(self, store: str, host: str) -> None:
        self._store = store
        self._host = host
        self._rooms: dict[str, Room] = {}

    def room(self, runtime: str) -> Room:
        """The room in a runtime directory; what an earlier agent has left there is removed."""
        found = self._rooms.get(runtime)
        if found is None:
            found = Room.of_agent(runtime, self._store, self._host)
            found.scratch.remove_all()
            self._rooms[runtime] = found
        return found

    def use(self, runtime: str, room: Room) -> None:
        """Have this be the room in a runtime directory."""
        self._rooms[runtime] = room

    def child_ended(self, pid: int, status: int) -> bool:
        """Hear of the end of a child; False if it is no helper that removes something."""
        return any(room.scratch.child_ended(pid, status) for room in self._rooms.values())

    def is_helper(self, pid: int) -> bool:
        """Is that child of ours one that removes something?"""
        return any(pid in room.scratch.helpers for room in self._rooms.values())

    def close(self) -> None:
        """Close spare files."""
        for room in self._rooms.values():
            room.captures.close()
