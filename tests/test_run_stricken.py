"""Services that hang, that die under those who use them, and below checkpoints that run again; nested checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from flows import stricken
from support.command import tagged
from support.kills import end_agent

import orch
from orch.bus.events import Failed, Retrying, Rewound, Running, Submitting


class Place:
    """A store, and the file in which bodies say what they do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "s"
        self.said = path / "said"
        self.said.touch()

    def run(self, workflow: Any, **options: Any) -> Any:
        """The value of a workflow."""
        return orch.run(workflow, store=self.store, said=str(self.said), **options)

    def words(self) -> list[str]:
        """What was said, without process ids."""
        return [line.split()[0] for line in self.lines()]

    def lines(self) -> list[str]:
        """What was said."""
        return self.said.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("ORCH_TEST_MARK", str(tmp_path))  # tells this test's processes
    monkeypatch.setenv("ORCH_AGENT_PATIENCE", "1.5")
    made = Place(tmp_path)
    yield made
    end_agent(made.store)
    assert not tagged(str(tmp_path)), "processes are left"


def events(place: Place, kind: type) -> list[Any]:
    """The events of one type, of the newest run."""
    from orch.bus.reader import read
    from orch.history import log_directory

    return [event for event in read(log_directory(place.store)) if isinstance(event, kind)]


def test_a_job_that_fails_because_its_service_has_died_is_not_charged(place: Place) -> None:
    """Although it ends sooner than the service, which has deferred something, and has no other try."""
    assert place.run(stricken.killed) == 0
    assert place.words() == ["start", "deferred", "start", "stop", "deferred"]
    ends = [(event.job, event.reason, event.charged) for event in events(place, Retrying)]
    assert ends == [(2, "FAILED", True), (3, "LOST", False)]


@pytest.mark.parametrize("hangs", ["stop", "check"])
def test_a_service_that_does_not_stop_is_ended(place: Place, hangs: str) -> None:
    """The job that used it is done; the run says what has failed."""
    with pytest.raises(orch.RunFailed, match=r"it was told to stop, and has not stopped in 1.5 s"):
        place.run(stricken.bad, hangs=hangs)
    assert place.words() == ["start", hangs, "deferred"]
    assert [event.job for event in events(place, Failed)] == [2]


async def test_a_service_that_hangs_while_it_starts_can_be_cancelled(place: Place) -> None:
    async with orch.Orchestrator(place.store) as o:
        run = await o.start(stricken.bad, said=str(place.said), hangs="start")
        with anyio.fail_after(30):
            while "start" not in place.words():
                await anyio.sleep(0.01)  # the body has no other way to tell an outsider
            await run.cancel()
            with pytest.raises(orch.RunCancelled):
                await run.result()
    assert place.words() == ["start", "deferred"]


def test_credentials_may_be_large(place: Place) -> None:
    assert place.run(stricken.bad, large=10_000_000) == 10_000_000
    assert place.words() == ["start", "stop", "deferred"]


def test_a_checkpoint_below_a_checkpoint(place: Place) -> None:
    """Each runs again for what fails below it, and the outer one with a new inner one."""
    assert place.run(stricken.nested) == ["below", "after"]
    first = ["outer", "inner", "below", "inner", "below", "after"]
    assert place.lines() == [*first, "outer", "inner", "below", "after"]
    assert [event.job for event in events(place, Rewound)] == [2, 1]


def test_a_service_below_a_checkpoint_goes_with_what_is_dropped(place: Place) -> None:
    """And another one comes."""
    assert place.run(stricken.rewound) == "used"
    assert place.words() == ["start", "used", "stop", "deferred"] * 2
    first, second = (line.split()[1] for line in place.lines() if line.startswith("start"))
    assert first != second


def test_links_of_a_chain_may_be_of_all_kinds(tmp_path: Path) -> None:
    """Each in the place of the one before, in a warm worker too."""
    place = Place(tmp_path)
    try:
        assert orch.run(stricken.chained, store=place.store) == "7\n"
        assert [event.after for event in events(place, Submitting)][:8] == list(range(8))
        ran = {event.job: event.pid for event in events(place, Running)}
        assert ran[5] == ran[6], "the same warm worker"
    finally:
        end_agent(place.store)
