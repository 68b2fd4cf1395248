"""What a session over several agents has to know of one host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orch.adapters.contract import RunInfo, Session
from orch.errors import AdapterError

LOST_AFTER = 300.0
"""Seconds for which a host may be away before its attempts are given up, and tried elsewhere."""


class Refusal(AdapterError):
    """The host will not do it, however often it is asked: an unknown key, no Python there …"""


class HostSession(Session, Protocol):
    """A session with the agent of one host."""

    async def withdraw(self, keys: Sequence[str], ask: int) -> None:
        """Have attempts forgotten that wait for their turn there: each is `Unknown` then, with `ask`.

        Of those that have begun, nothing is said.
        """


class Host(Protocol):
    """A host with an agent, or that can be given one.

    `name`: for ever the same, since it is kept with the run. `remarks`: said to the user when it is connected.
    """

    name: str
    remarks: list[str]

    async def connect(self, info: RunInfo) -> HostSession:
        """A session with the agent there, which is started if there is none.

        Its `updates` raise `AdapterError` when the connection is cut; then another is asked for. Raises `Fenced`,
        `Refusal`, and `AdapterError` where it may do better later.
        """
