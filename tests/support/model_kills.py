"""Runs of `tests/flows/model.py` that are sabotaged, carried on, and looked at."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import model

from orch.agent import paths
from orch.bus.events import (
    Cancelled,
    Event,
    Failed,
    Removed,
    Retrying,
    Rewound,
    Submitting,
    Succeeded,
)
from orch.bus.reader import read
from orch.history import fold_quickly
from orch.logtools.audit import Audit
from orch.state.fold import fold
from orch.state.law import JobState
from orch.state.model import State
from orch.testing.states import check as check_state
from orch.testing.states import difference, snapshot
from orch.work.surroundings import scratch_name
from support.kills import Case

FLOW = Path(__file__).parent.parent / "flows" / "model.py"
PATIENCE = 30


@dataclasses.dataclass
class ModelCase(Case):
    """One run of the whole model. `lossy`: attempts may have been lost, for more than leaders was killed."""

    flow: Path = FLOW
    lossy: bool = False

    def sabotage(self, **plan: Any) -> list[str]:
        return super().sabotage(**{"where": str(self.counts / "pids"), **plan})

    def arguments(self) -> list[str]:
        return []

    def check(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == model.EXPECTED
        events = self.events()
        self._check_log()
        self.check_bodies(events)
        self._check_files(events)
        self.check_leftovers(events)
        self._check_deferred(events)

    def _check_log(self) -> None:
        """It is whole and legal, and however it is folded, the state is the same."""
        audit = Audit(self.log).look()
        assert audit.whole, audit.found.problems
        state = fold_quickly(self.log)
        check_state(state)
        assert state.outcome == "succeeded"
        assert {row.state for row in state.jobs.values()} <= {JobState.DONE, JobState.DROPPED}
        one_by_one = State()
        for event in read(self.log):
            fold([event], one_by_one)
        assert not difference(snapshot(state), snapshot(one_by_one))

    def check_bodies(self, events: list[Event]) -> None:
        ran = {path.name: path.read_text().splitlines() for path in self.counts.iterdir()}
        bodies = model.ONCE | model.TWICE
        assert ran.keys() - bodies - model.AT_LEAST <= {f"lively-{turn}" for turn in range(20)}
        keys = Counter(key for name, lines in ran.items() if name not in model.AT_LEAST for key in lines)
        assert set(keys.values()) == {1}, f"an attempt ran twice: {keys}"
        committed = Counter((event.job, event.attempt) for event in events if isinstance(event, Succeeded))
        assert set(committed.values()) == {1}, "an attempt commits once"
        self._check_counts(ran, events)

    def _check_counts(self, ran: dict[str, list[str]], events: list[Event]) -> None:
        rewound = sum(isinstance(event, Rewound) for event in events)
        once = {name: len(ran.get(name, ())) for name in model.ONCE}
        if self.lossy:
            over = {f"{e.job}.{e.attempt}" for e in events if isinstance(e, Retrying | Failed | Cancelled)}
            for name in model.ONCE:
                assert len(set(ran.get(name, ())) - over) == 1, f"{name}: {ran.get(name)}; ended otherwise: {over}"
            assert rewound >= model.FAILURES - 1, "one who has failed may be lost before that is known"
            return
        assert set(once.values()) == {1}, once
        assert rewound == model.FAILURES
        more = {name: len(ran[name]) for name in ("shaky-failed", "flaky-failed", "point", "start-near", "stop-near")}
        assert list(more.values()) == [model.FAILURES, 1, model.FAILURES + 1, 1, 1], more

    def _check_files(self, events: list[Event]) -> None:
        """Those that were kept for successors only are gone, once that is known to all."""
        gone = [file for event in events if isinstance(event, Removed) for file in event.files]
        assert len(gone) == 1
        assert not (self.store / gone[0]).exists(), gone

    def _check_deferred(self, events: list[Event]) -> None:
        """What was deferred was done; a later agent may be at it still."""
        attempts = {scratch_name(f"{self.run}.{e.job}.{e.attempt}") for e in events if isinstance(e, Submitting)}
        directory = Path(paths.deferred_directory(str(self.store), paths.host_name()))
        wait_until(lambda: not directory.is_dir() or not attempts & set(os.listdir(directory)))
        deferred, made = (Path(self.counts, name).read_text().splitlines() for name in ("defers", "deferred"))
        assert set(deferred) <= set(made), f"never made: {set(deferred) - set(made)}"
        if not self.lossy:
            assert sorted(deferred) == sorted(made)


def wait_until(there: Callable[[], bool]) -> None:
    """Wait for what happens in another process and cannot be waited on."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.005)
