"""The environment of this process, without the copying and decoding of `os.environ`.

That costs more than a short job; and all that a fresh fork touches, it has to copy first.
"""

from __future__ import annotations

import os


def variables() -> dict[bytes, bytes]:
    """What `os.environ` is a view of: to be read, and changed by way of these functions only."""
    found: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    return found


def set_variable(name: bytes, value: bytes) -> None:
    """Set one, for this process and for what it starts."""
    os.putenv(name, value)
    variables()[name] = value
