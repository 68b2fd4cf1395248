"""How hosts are written in settings: "node1:16, user@node2:8, node3"."""

from __future__ import annotations

import re
from typing import NamedTuple

_HOST = re.compile(
    r"""(?:(?P<user>[^@\s,:]+)@)?
        (?P<host>\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^@\s,:\[\]]+)
        (?::(?P<slots>\d+))?""",
    re.VERBOSE,
)


class Name(NamedTuple):
    """A host. `host` is what OpenSSH's configuration knows it by; `slots` are cores, 0: all that it has."""

    host: str
    user: str = ""
    slots: int = 0

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


def parse_hosts(text: str) -> tuple[Name, ...]:
    """The hosts in a setting. Raises `ValueError` with what is accepted."""
    found: dict[str, Name] = {}
    for part in re.split(r"[\s,]+", text.strip().strip(",")):
        match = _HOST.fullmatch(part)
        if match is None or part.startswith("-"):
            raise ValueError(f"{part!r} is not a host; hosts are written as node1:16, user@node2:8 or [2001:db8::7]:4")
        name = Name(match["host"].strip("[]"), match["user"] or "", int(match["slots"] or 0))
        if match["slots"] is not None and not name.slots:
            raise ValueError(f"{part!r} has no slots: a host gets at least one core, or leave the number out")
        if str(name) in found:
            raise ValueError(f"{name} is named twice")
        found[str(name)] = name
    return tuple(found.values())
