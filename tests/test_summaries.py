"""`summary.json` beside a log: it says what folding the log would say, or it does not count."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from support.folded import Folded, added, run_through
from support.handmade import created, mixed, started, write_run
from support.work import lines_run

from orch import summaries
from orch.bus import events as ev
from orch.bus.lock import RunLock
from orch.bus.log import Log
from orch.bus.segment import segment_name
from orch.cli.main import main
from orch.history import fold_quickly
from orch.leader import summarizing
from orch.leader.summarizing import MOST_JOBS, Summarizer, summary_of
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import State
from orch.summary import first_jobs

Says = Callable[..., str]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """What a command prints, about the store `tmp_path/s`."""
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "s"))

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def _all_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarizing, "LONG", 0)


def keep(log: Path, epoch: int = 1) -> None:
    """Write the summary of a log as it is now."""
    summaries.write(log, summary_of(fold_quickly(log), summaries.place_of(log, epoch)))


def append(log: Path, *events: ev.Event, close: str = "") -> None:
    """Go on with a log, in a segment of its own."""

    async def write() -> None:
        opened = await Log.open(log, run="r")
        await opened.append(list(events))
        if close:
            await opened.close(close)

    anyio.run(write)


def grow(log: Path, more: bytes) -> None:
    """Put bytes behind the first segment."""
    with open(log / segment_name(1), "ab") as file:
        file.write(more)


def ended(run: str = "r") -> list[ev.Event]:
    """A run of one job that has succeeded."""
    first = [created(run), ev.Added(job=1, kind="one"), ev.Planned(count=1, refs=[1]), *started(1, run=run)]
    return [*first, ev.Succeeded(job=1, attempt=1), ev.Ended(outcome="succeeded")]


# Read --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_all_are_long")
@pytest.mark.parametrize(("events", "close"), [(ended(), "ended"), (mixed(), "stopped"), (mixed(), "")])
@pytest.mark.parametrize("lock", ["none", "free", "held"])
def test_it_says_what_folding_says(tmp_path: Path, says: Says, events: list[ev.Event], close: str, lock: str) -> None:
    log = write_run(tmp_path / "s", "r", [msgspec.structs.replace(event) for event in events], close)
    held = RunLock(log.parent / "lock")
    if lock != "none":
        held.acquire()
    if lock == "free":
        held.release()
    folded = says("list"), says("list", "--json"), says("status")
    keep(log)
    found = summaries.read(log)
    assert found is not None
    assert found[1]
    assert (says("list"), says("list", "--json"), says("status")) == folded
    held.release()


def test_no_log_is_folded_for_it(tmp_path: Path, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    monkeypatch.setattr(summarizing, "LONG", 0)
    keep(log)
    monkeypatch.setattr("orch.cli.runs.fold_quickly", None)
    monkeypatch.setattr("orch.cli.status.fold_quickly", None)
    assert "succeeded" in says("list")
    assert "1 done" in says("status")


def test_a_copy_of_the_run_is_as_good(tmp_path: Path, says: Says) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    keep(log)
    shutil.copytree(log.parent, log.parent.parent / "copy")
    assert summaries.read(log.parent.parent / "copy" / "log") is not None
    assert "copy  succeeded" in says("list")


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_one_that_is_torn_does_not_count(tmp_path: Path, cut: int) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    keep(log)
    file = log.parent / summaries.NAME
    file.write_bytes(file.read_bytes()[:-cut])
    assert summaries.read(log) is None


def test_one_that_was_edited_does_not_count(tmp_path: Path, says: Says) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    keep(log)
    file = log.parent / summaries.NAME
    file.write_bytes(file.read_bytes().replace(b'"done":1', b'"done":2'))
    assert summaries.read(log) is None
    assert "1 done" in says("status")


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff", b"null"])
def test_what_is_none_does_not_count(tmp_path: Path, data: bytes) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    (log.parent / summaries.NAME).write_bytes(data)
    assert summaries.read(log) is None


def test_one_of_another_log_does_not_count(tmp_path: Path, says: Says) -> None:
    log = write_run(tmp_path / "s", "r", mixed(), "stopped")
    other = write_run(tmp_path / "other", "r", ended(), "ended")
    keep(other)
    shutil.copy(other.parent / summaries.NAME, log.parent)
    assert summaries.read(log) is None
    assert "stopped" in says("list")


# A log that goes on ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_all_are_long")
def test_while_the_run_is_led_an_older_one_counts_and_says_so(tmp_path: Path, says: Says) -> None:
    log = write_run(tmp_path / "s", "r", mixed())
    keep(log)
    grow(log, b'{"seq":99,')
    with_leader = RunLock(log.parent / "lock")
    with_leader.acquire()
    found = summaries.read(log)
    assert found is not None
    assert not found[1]
    assert "state    running (as of " in says("status")
    with_leader.release()
    assert "as of" not in says("status")
    assert "interrupted" in says("status")


def test_one_from_before_the_end_never_counts(tmp_path: Path, says: Says) -> None:
    """The leader died between its last event and its last summary."""
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    segment = log / segment_name(1)
    whole = segment.read_bytes()
    segment.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    keep(log)
    found = summaries.read(log)
    assert found is not None
    assert found[0].summary.state == "running"
    segment.write_bytes(whole)
    lock = RunLock(log.parent / "lock")
    lock.acquire()  # somebody is about to look at it, say
    assert summaries.read(log) is None
    assert "succeeded" in says("list")
    lock.release()


@pytest.mark.parametrize("whole", [True, False])
def test_one_of_an_earlier_leader_never_counts(tmp_path: Path, says: Says, *, whole: bool) -> None:
    log = write_run(tmp_path / "s", "r", mixed(), "stopped")
    keep(log)
    if whole:
        append(log, ev.Restarted(by="me"))
    else:
        (log / segment_name(2)).touch()  # a claim: somebody may write there at any moment
    assert summaries.read(log) is None
    assert ("running" if whole else "stopped") in says("list")


def test_a_log_that_was_cut_back_has_none(tmp_path: Path) -> None:
    log = write_run(tmp_path / "s", "r", ended(), "ended")
    keep(log)
    segment = log / segment_name(1)
    segment.write_bytes(segment.read_bytes()[:-10])
    assert summaries.read(log) is None


# Written -----------------------------------------------------------------------------------------------------------


class Led:
    """A run that is led by hand: what it has in the log, and what it says of itself."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.state = State()
        apply(self.state, log.opened)
        self.summarizer = Summarizer(log, self.state)

    async def then(self, *events: ev.Event) -> None:
        """Commit them, as a turn of the leader does."""
        for event in self.log.stage(events):
            apply(self.state, event)
        await self.log.commit()
        self.summarizer.committed()

    def told(self) -> int:
        """The last event that the summary knows of; 0 if there is none that counts."""
        found = summaries.read(self.log.directory)
        return found[0].summary.seq if found else 0


def lead(tmp_path: Path, story: Callable[[Led], Awaitable[None]]) -> None:
    """Tell a story about a new run."""

    async def whole() -> None:
        (tmp_path / "r").mkdir()
        log = await Log.open(tmp_path / "r" / "log", run="r")
        try:
            await story(Led(log))
        finally:
            await log.close("left")

    anyio.run(whole)


class Ticks:
    """Sleeps until it is told to go on."""

    def __init__(self) -> None:
        self.asleep = anyio.Event()
        self._go = anyio.Event()

    async def __call__(self, _seconds: float) -> None:
        """Sleep."""
        self.asleep.set()
        await self._go.wait()
        self._go = anyio.Event()

    async def once(self) -> None:
        """Have a sleep end, and wait until there is another."""
        await self.asleep.wait()
        self.asleep = anyio.Event()
        self._go.set()
        await self.asleep.wait()


@pytest.mark.usefixtures("_all_are_long")
def test_it_is_written_as_the_run_goes_on(tmp_path: Path) -> None:
    async def story(led: Led) -> None:
        ticks = Ticks()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(led.summarizer.keep, ticks)
            await led.then(created("r"), ev.Added(job=1, kind="one"), ev.Planned(count=1))
            assert led.told() == 0
            await ticks.once()
            assert led.told() == 4
            before = (led.log.directory.parent / summaries.NAME).stat().st_ino
            await ticks.once()
            assert (led.log.directory.parent / summaries.NAME).stat().st_ino == before, "nothing has happened"
            tasks.cancel_scope.cancel()

    lead(tmp_path, story)


@pytest.mark.usefixtures("_all_are_long")
def test_what_is_not_in_the_log_yet_is_not_told(tmp_path: Path) -> None:
    async def story(led: Led) -> None:
        ticks = Ticks()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(led.summarizer.keep, ticks)
            await led.then(created("r"), ev.Added(job=1, kind="one"), ev.Planned(count=1))
            for event in led.log.stage(started(1)):
                apply(led.state, event)
            await ticks.once()
            assert led.told() == 0
            await led.log.commit()
            led.summarizer.committed()
            assert led.told() == 7
            await led.then(ev.Succeeded(job=1, attempt=1))
            assert led.told() == 7, "once is enough for a while"
            tasks.cancel_scope.cancel()

    lead(tmp_path, story)


def test_a_short_log_has_one_at_its_end_only(tmp_path: Path) -> None:
    async def story(led: Led) -> None:
        ticks = Ticks()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(led.summarizer.keep, ticks)
            await led.then(*ended())
            await ticks.once()
            assert led.told() == 0
            led.summarizer.last()
            assert led.told() == 0, "it is not closed"
            await led.then(ev.Closed(reason="ended"))
            led.summarizer.last()
            assert led.told() == led.log.last_seq
            found = summaries.read(led.log.directory)
            assert found is not None
            assert found[0].jobs == []
            tasks.cancel_scope.cancel()

    lead(tmp_path, story)


def test_where_it_cannot_be_written_the_run_goes_on(tmp_path: Path) -> None:
    async def story(led: Led) -> None:
        (tmp_path / "r" / f"{summaries.NAME}.new").mkdir()
        await led.then(*ended(), ev.Closed(reason="ended"))
        led.summarizer.last()
        assert led.told() == 0

    lead(tmp_path, story)


def test_a_real_run_has_one(tmp_path: Path, says: Says) -> None:
    flow = tmp_path / "wf.py"
    flow.write_text("import orch\n@orch.workflow\ndef main() -> int:\n    return 7\n")
    assert says("run", "--quiet", "--run-id", "r", str(flow)) == "7\n"
    found = summaries.read(tmp_path / "s" / "runs" / "r" / "log")
    assert found is not None
    assert found[1]
    assert (found[0].summary.run, found[0].summary.state) == ("r", "succeeded")
    assert (tmp_path / "s" / "runs" / "r" / summaries.NAME).stat().st_mode & 0o777 == 0o600


# Which jobs --------------------------------------------------------------------------------------------------------


def test_what_has_failed_or_is_at_work_comes_first() -> None:
    story = Folded(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
    story.then(*(added(job) for job in range(1, 9)), ev.Planned(count=8))
    story.then(*run_through(1), *run_through(2), *started(7), *started(5)[:2])
    story.then(*started(6), ev.Failed(job=6, attempt=1, reason="FAILED"))

    def shown(most: int) -> list[int]:
        return [row.id for row in first_jobs(story.state, most)]

    assert shown(1) == [6]
    assert shown(2) == [6, 7]
    assert shown(3) == [5, 6, 7]
    assert shown(4) == [3, 5, 6, 7]
    assert shown(7) == [1, 3, 4, 5, 6, 7, 8]
    assert shown(50) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_provisional_jobs_are_not_shown() -> None:
    story = Folded(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"), added(1))
    assert first_jobs(story.state, 5) == []
    assert story.state.counts[JobState.ADDED] == 1


def test_to_choose_them_costs_no_look_at_all_jobs() -> None:
    def work(jobs: int) -> int:
        story = Folded(ev.Opened(run="r", host="h", pid=1, epoch=1), ev.Created(run="r"))
        story.then(*(added(job) for job in range(1, jobs + 1)), ev.Planned(count=jobs))
        place = summaries.Place(1, 1, "")
        return lines_run(lambda: summary_of(story.state, place))

    assert work(10 * MOST_JOBS) < 1.2 * work(2 * MOST_JOBS)
