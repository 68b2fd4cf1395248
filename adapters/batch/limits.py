"""What a run may have in the batch system at once: the limits that a user gives a run hold here, too."""

from __future__ import annotations

from orch.bus.events import Resources


class Limits:
    """What a run may have in the batch system at once, 0 is no limit; and what it has."""

    def __init__(self, cores: float = 0.0, memory: int = 0, disk: int = 0) -> None:
        self.cores = cores
        self.memory = memory
        self.disk = disk
        self._used: dict[str, Resources] = {}
        self._cores = 0.0
        self._memory = 0
        self._disk = 0

    def __contains__(self, key: str) -> bool:
        """Does this attempt have what it asks for?"""
        return key in self._used

    def fits(self, wanted: Resources) -> bool:
        """Is there room? One alone always has."""
        return not self._used or not (
            (self.cores and self._cores + wanted.cores > self.cores)
            or (self.memory and self._memory + wanted.memory > self.memory)
            or (self.disk and self._disk + wanted.disk > self.disk)
        )

    def take(self, key: str, asked: Resources) -> None:
        """An attempt has what it asks for."""
        if key not in self._used:
            self._used[key] = asked
            self._add(asked, 1)

    def give_back(self, key: str) -> bool:
        """It needs that no more; False: it had nothing."""
        had = self._used.pop(key, None)
        if had is not None:
            self._add(had, -1)
        return had is not None

    def _add(self, asked: Resources, sign: int) -> None:
        self._cores += sign * asked.cores
        self._memory += sign * asked.memory
        self._disk += sign * asked.disk
        if not self._used:
            self._cores = 0.0  # fractions do not add up

    @property
    def any(self) -> bool:
        """Is there one?"""
        return bool(self.cores or self.memory or self.disk)
