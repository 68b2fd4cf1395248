"""A look at a running attempt, for whoever leads nothing. Blocking; starts no agent, and disturbs nobody."""

from __future__ import annotations

from orch.agent import paths, protocol
from orch.errors import AdapterError


def ask(store: str, key: str) -> protocol.Answer | None:
    """What this host's agent of a store says of the attempt `key`; None if there is no agent, or it does not know."""
    try:
        directory = paths.read_pointer(store)
        connection = paths.connect(directory) if directory else None
        if connection is None:
            return None
        frames = protocol.Frames()
        with connection:
            connection.sendall(protocol.frame(protocol.Ask(1, key)))
            while data := connection.recv(1 << 20):
                for each in frames.feed(data):
                    answer = protocol.from_agent(each)
                    return answer if isinstance(answer, protocol.Answer) and answer.known else None
    except (AdapterError, OSError, ValueError):
        return None
    return None
