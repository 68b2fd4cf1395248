"""Reading a run from its log alone: no leader, no adapter, no user code."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orch.bus import events as ev
from orch.bus.files import REAL, Files
from orch.bus.reader import read, read_batches
from orch.bus.segment import epochs
from orch.errors import NoSuchRun
from orch.state.fold import fold
from orch.state.model import State
from orch.state.status import JobStatus, statuses
from orch.store import layout
from orch.store.locator import open_store
from orch.store.runs import newest_run

if TYPE_CHECKING:
    from orch.inspection import Graph


class Replayed(dict[str, JobStatus]):
    """`{job id: JobStatus}`, and how the jobs hang together."""

    def __init__(self, state: State) -> None:
        super().__init__(statuses(state))
        self._state = state

    @property
    def graph(self) -> Graph:
        """Predecessors, children, follow-ons and services of each job, and an order."""
        from orch.inspection import Graph

        return Graph(self._state)


def replay(store: str | Path, run: str | None = None, at: int | None = None) -> Replayed:
    """`{job id: JobStatus}` of a run as it stood after event `at` (default: the last one).

    `run` defaults to the newest run of the store. Works on a copied store, and on a directory of segments (a copied
    log). The `graph` of what is returned says how the jobs hang together. Raises `NoSuchRun`, `LogDamaged`.
    """
    return Replayed(replay_state(store, run, at))


def replay_state(store: str | Path, run: str | None = None, at: int | None = None) -> State:
    """The whole state of a run as it stood after event `at`."""
    return fold_quickly(log_directory(store, run), at)


def log_directory(store: str | Path, run: str | None = None) -> Path:
    """Where the log of `run` is: `store` is a store's locator, or itself a directory of segments, or of one run."""
    copied = copied_log(store) if run is None else None
    if copied is not None:
        return copied
    opened = open_store(store)
    name = run or newest_run(opened)
    directory = opened.local_path(layout.log_dir(name))
    if not directory.is_dir():
        raise NoSuchRun(f"the store {store} has no run {name!r}; see: orch list --store {store}")
    return directory


def copied_log(path: str | Path) -> Path | None:
    """The directory of segments that `path` is, or has in it as the directory of a run does; None: neither."""
    places = (Path(path), Path(path, "log"))
    return next((place for place in places if place.is_dir() and epochs(place, REAL)), None)


def fold_quickly(directory: Path, at: int | None = None, *, state: State | None = None, files: Files = REAL) -> State:
    """Fold a log, or what comes after `state`. Nothing of it is garbage soon, so the collector need not look."""
    state = state or State()
    with _no_collector():
        for batch in read_batches(directory, from_seq=state.seq + 1, to_seq=at, files=files):
            fold(batch, state)
    return state


class EventReader:
    """Reads single events of a log that nobody writes to from here. Neighbours are read along, and kept for a while."""

    def __init__(self, directory: Path, ahead: int = 512, keep: int = 4096) -> None:
        self._directory = directory
        self._ahead = ahead
        self._keep = keep
        self._known: dict[int, ev.Event] = {}

    def __call__(self, seq: int) -> ev.Event:
        """Event `seq`. Raises `LookupError` if there is none, `LogDamaged`."""
        if seq not in self._known:
            if len(self._known) > self._keep:
                self._known.clear()
            self._known |= {e.seq: e for e in read(self._directory, from_seq=seq, to_seq=seq + self._ahead)}
        try:
            return self._known[seq]
        except KeyError:
            raise LookupError(f"{self._directory}: there is no event {seq}") from None


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
