"""Disks of a store that fail, or take less than they are given."""

from __future__ import annotations

import os
from typing import Any

from orch.store.disk import Disk


class Failing(Disk):
    """A disk of which one call fails, once `after` calls of that kind have passed."""

    def __init__(self, method: str, code: int, after: int = 0) -> None:
        self.calls: list[str] = []
        self._method, self._code, self._left = method, code, after

    def __getattribute__(self, name: str) -> Any:
        real: Any = super().__getattribute__(name)
        if name not in STEPS:
            return real

        def call(*args: Any) -> Any:
            self.calls.append(name)
            if name == self._method:
                if self._left == 0:
                    raise OSError(self._code, os.strerror(self._code))
                self._left -= 1
            return real(*args)

        return call


STEPS = ["create", "write", "sync", "rename", "sync_directory", "make_directory", "close"]


class Short(Disk):
    """A disk that takes three bytes at a time."""

    def write(self, descriptor: int, data: memoryview) -> int:
        return super().write(descriptor, data[:3])
