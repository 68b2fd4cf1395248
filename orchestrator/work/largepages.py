"""Moves what a template has imported into large pages, so that a fork need not copy a table of all the small ones.

A table has an entry for every 4 KiB: with 300 MB of Python objects, copying it takes ten times as long as the rest of a
fork does. Moving them takes about as long as twenty such forks. What numpy allocates is in large pages anyway.
"""

from __future__ import annotations

from collections.abc import Iterator

from orch.agent.linux import into_large_pages

SIZE = 2 << 20
ENOUGH = 64 << 20
"""Bytes of private memory from which on it is worth it."""


def gather() -> bool:
    """Move what there is, if that is much; False if it is not, or cannot be moved."""
    try:
        found = list(_ranges())
    except OSError:  # nothing tells
        return False
    if sum(length for _, length in found) < ENOUGH:
        return False
    moved = [into_large_pages(address, length) for address, length in found]
    return any(moved)


def _ranges() -> Iterator[tuple[int, int]]:
    """Address and length of what is private, writable and no file's, as far as whole large pages go."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            span, mode, _offset, _device, _inode, *name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            start, end = -(-start // SIZE) * SIZE, end // SIZE * SIZE
            if mode == "rw-p" and (not name or name[0].strip() == "[heap]") and end > start:
                yield start, end - start
