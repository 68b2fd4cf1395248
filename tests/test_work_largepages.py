"""Much data is moved into large pages, and stays what it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orch.work import largepages


def test_what_is_small_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(largepages, "ENOUGH", 1 << 50)
    assert not largepages.gather()


def test_only_whole_large_pages_are_moved() -> None:
    data = bytearray(16 << 20)
    found = list(largepages._ranges())
    assert sum(length for _, length in found) >= len(data) - 2 * largepages.SIZE
    assert all(part % largepages.SIZE == 0 for span in found for part in span)


def test_nothing_is_lost() -> None:
    """In a process of its own. Whether the kernel does it is its own business: some have been told not to."""
    script = """
from orch.work import largepages
data = [(number, str(number)) for number in range(100_000)]
largepages.ENOUGH = 1 << 20
assert largepages.gather() in (True, False)
assert all(data[number] == (number, str(number)) for number in range(100_000))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
