"""A service for tests of the agent: templates import this module."""

from __future__ import annotations

import os
import socket
from typing import Any

import orch


class Echo:
    """Answers what it is asked over a socket, and says in a file what becomes of it."""

    def __init__(self, said: str, fails: bool = False) -> None:
        self.said = said
        self.fails = fails

    def start(self) -> dict[str, Any]:
        """Where it can be asked."""
        self._say("start")
        orch.context().defer(_append, self.said, "deferred")
        self.socket = socket.create_server(("127.0.0.1", 0))
        return {"port": self.socket.getsockname()[1], "pid": os.getpid()}

    def check(self) -> None:
        """Answer one caller, if there is one."""
        if self.fails:
            raise ConnectionError("nobody calls")

    def stop(self) -> None:
        """Close the door."""
        self.socket.close()
        self._say("stop")

    def _say(self, word: str) -> None:
        _append(self.said, word)


def _append(path: str, word: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")
