"""The mark that every process of an attempt carries in its environment, so that it can be found and ended.

`ORCH_ATTEMPT=<agent>:<key>`. A program that is executed inherits it. A forked one shows the memory in which the kernel
put the *first* environment of the process that it was forked from (proc(5), /proc/PID/environ), so a template is
started with a placeholder there, and each fork writes its own mark over it.
"""

from __future__ import annotations

import os

from orch.agent.linux import memory, memory_at
from orch.work.variables import set_variable

NAME = "ORCH_ATTEMPT"
WIDTH = 240
"""Bytes of the placeholder, and the most that a mark has."""
_KEY = NAME.encode()


def agent_name(store: str, host: str) -> str:
    """The part that all attempts of one agent share, also of a later agent for the same store, host and user."""
    import hashlib  # a template has no use for it, and all that it has makes forks slower

    text = f"{os.path.realpath(store)}\0{host}\0{os.getuid()}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def tag_of(agent: str, key: str) -> str:
    """The mark of an attempt. Long keys stand in it as a digest."""
    if len(agent) + 1 + len(key.encode()) > WIDTH:
        import hashlib  # as above

        key = f"sha256-{hashlib.sha256(key.encode()).hexdigest()}"
    return f"{agent}:{key}"


def placeholder(agent: str) -> str:
    """The value with which a template starts: an own mark, wide enough for any other."""
    return f"{agent}:".ljust(WIDTH, ".")


class OwnTag:
    """The mark of this process, which can be changed. Only in processes that were started with a placeholder."""

    def __init__(self) -> None:
        address = _find(f"{NAME}=".encode())
        self._memory = memory(address, WIDTH) if address else None

    def set(self, tag: str) -> None:
        """Carry `tag` from here on, and hand it on."""
        data = tag.encode()[:WIDTH]
        set_variable(_KEY, data)
        if self._memory is not None:
            self._memory[:] = data.ljust(WIDTH, b"\0")


def _find(name: bytes) -> int:
    """Where the value of `name` stands in the first environment of this process; 0 if it does not."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, 50 and 51 of proc(5), after pid and comm
    if not 0 < start < end:
        return 0
    block = memory_at(start, end - start)
    at = 0 if block.startswith(name) else block.find(b"\0" + name) + 1
    if at == 0 and not block.startswith(name):
        return 0
    stop = block.find(b"\0", at)
    return start + at + len(name) if stop - at - len(name) >= WIDTH else 0
