"""How a test of the kit is written: an async method that gets a bench. Any test runner can call it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from orch.testing.adapter.bench import Bench
from orch.testing.adapter.rig import Rig

Story = Callable[[Any, Bench], Awaitable[None]]


def story(*faults: str) -> Callable[[Story], Callable[[Any, Rig], None]]:
    """Make a test of a story: it takes a `rig`, and is skipped where that cannot produce one of the faults."""

    def make(tell: Story) -> Callable[[Any, Rig], None]:
        async def whole(self: Any, rig: Rig) -> None:
            async with Bench(rig) as bench:
                await tell(self, bench)

        def test(self: Any, rig: Rig) -> None:
            for fault in faults:
                rig.need(fault)
            asyncio.run(whole(self, rig))

        test.__name__, test.__qualname__, test.__doc__ = tell.__name__, tell.__qualname__, tell.__doc__
        return test

    return make
