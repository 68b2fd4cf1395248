"""Is what follows the last whole group of a segment merely torn, or is the log damaged?

A group is written with one call and made durable before the next one is written. So a crash or a power cut can leave
the last group cut short, or with holes, and nothing behind it; that group was never acknowledged, and is dropped
whole. It is damage, and the log is refused, if behind the last whole group

- there is a line of another group than the one that comes next: a later group was written, so the broken one had been
  made durable and acknowledged before; or
- the broken line is the closing one, whole in length: a segment that was closed in order has no torn tail; or
- all of the group is there, from its first line to the mark that ends it, without a hole: what a crash leaves is cut
  short, or has zeros in it; or
- the segment has its closing line already, and anything follows it.

A line counts as "of another group" if it says so at its beginning. Lines are also looked for in the middle of others,
because the byte that is damaged may be a newline; there the crc must be right, for users can say anything in a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orch.bus.codec import END, TAIL, intact
from orch.bus.groups import ends_group, sum_fits

_HEAD = re.compile(rb'\{"seq":(\d+),"time":"[^"]*","epoch":\d+,"group":(\d+),')
_START = b'{"seq":'
_CLOSED = b'"type":"closed"'
_ENVELOPE = 120
"""Bytes within which the type begins; what users can say in a line begins later."""


def damage(rest: bytes, seq: int) -> tuple[int, str] | None:
    """Offset in `rest` of what is damaged, and why; None if `rest` is the torn last group, which begins with `seq`."""
    found = out_of_order(rest, seq)
    if found is None and _is_closing_line(rest):
        return 0, "the closing line is broken"
    if found is None and _is_complete(rest):
        return first_bad(rest, seq), "the line is broken, and all of its group is there"
    return found


def _is_complete(rest: bytes) -> bool:
    """Does `rest` end with the line that ends a group, and has no holes?"""
    return rest.endswith(b"\n") and rest.startswith(END, len(rest) - 1 - len(END) - TAIL) and b"\0" not in rest


def out_of_order(rest: bytes, seq: int) -> tuple[int, str] | None:
    """The same, as far as lines of a later group show it. `rest` may end with any line."""
    if all(group == seq for group in _groups_behind(rest, 0)):
        return None
    return first_bad(rest, seq), f"event {seq} is expected here, and later ones follow"


def starts_like_a_line(data: bytes, start: int) -> bool:
    """Does any line of a log, whole or at least in its beginning, begin at `start` or behind it?"""
    return next(_groups_behind(data, start), None) is not None


def _groups_behind(rest: bytes, start: int) -> Iterator[int]:
    """The groups of all lines that can be made out from `start` on."""
    at = rest.find(_START, start)
    while at >= 0:
        newline = rest.find(b"\n", at)
        head = _HEAD.match(rest, at)
        if head and (rest[at - 1 : at] == b"\n" or at == 0 or (newline >= 0 and intact([rest[at:newline]]))):
            yield int(head[2])
        at = rest.find(_START, at + 1)


def first_bad(rest: bytes, seq: int) -> int:
    """Offset of the first line that is broken or out of order, or that has another sum than its group."""
    at = group = 0
    while (newline := rest.find(b"\n", at)) >= 0:
        line = rest[at:newline]
        if not (intact([line]) and line.startswith(b'{"seq":%d,' % seq)):
            break
        if ends_group(line):
            if not sum_fits(line, rest[group:at]):
                break
            group = newline + 1
        at, seq = newline + 1, seq + 1
    return at


def _is_closing_line(rest: bytes) -> bool:
    """Is `rest` one line, not cut short and without holes, that says, but for one byte, that it is the closing one?"""
    whole = rest.endswith(b"\n") or intact([rest[:-1]])
    if not whole or rest.count(b"\n") > 1 or b"\0" in rest:
        return False
    return any(_nearly(rest[at : at + len(_CLOSED)], _CLOSED) for at in range(_ENVELOPE))


def _nearly(found: bytes, wanted: bytes) -> bool:
    return len(found) == len(wanted) and sum(a != b for a, b in zip(found, wanted, strict=True)) <= 1
