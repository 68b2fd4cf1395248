"""Where everything that the leader has to hear comes together, to be taken a turn at a time."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Many producers, one consumer; `take` gives all that has come since the last time."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._error: BaseException | None = None
        self._arrived = anyio.Event()

    def put(self, items: list[Item]) -> None:
        """Add items, in order."""
        self._items.extend(items)
        self._arrived.set()

    def fail(self, error: BaseException) -> None:
        """Make the next `take` raise, once what came before has been taken."""
        self._error = error
        self._arrived.set()

    async def take(self, until: float | None = None) -> list[Item]:
        """Wait for something, and take all of it; nothing if the loop's clock reaches `until` first."""
        if until is None:
            await self._arrived.wait()
        else:
            with anyio.CancelScope(deadline=until):
                await self._arrived.wait()
        if self._error is not None and not self._items:
            raise self._error
        items, self._items = self._items, []
        if self._error is None:
            self._arrived = anyio.Event()
        return items
