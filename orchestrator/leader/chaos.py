"""Attempts that are killed on purpose, for users to try what their workflows make of it."""

from __future__ import annotations

import zlib

_WHOLE = 1 << 32


def doom(key: str, share: float, seconds: float) -> float:
    """Seconds after its start at which the attempt `key` is killed; 0: it is not. It follows from the key alone."""
    if zlib.crc32(f"chaos:{key}".encode()) >= share * _WHOLE:
        return 0.0
    return max(0.001, seconds * zlib.crc32(f"when:{key}".encode()) / _WHOLE)
