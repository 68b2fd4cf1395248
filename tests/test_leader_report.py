"""What is said of a run that failed."""

from __future__ import annotations

from pathlib import Path

from support.handmade import created, started, text, write_run

from orch.adapters.contract import Capacity, fits
from orch.bus import events as ev
from orch.history import EventReader, fold_quickly
from orch.leader.report import failure_report, without_head
from orch.leader.settings import Settings, ever
from orch.store.file import FileStore

TRACE = "Traceback …\n  File wf.py\nValueError: same\n"


def report(root: Path, ends: list[tuple[str, str]]) -> str:
    """Of a run in which each job ended with a message and a stderr."""
    events: list[ev.Event] = [created("r")]
    events += [ev.Added(job=job, kind="k") for job, _ in enumerate(ends, 1)]
    events.append(ev.Planned(count=len(ends)))
    for job, (message, stderr) in enumerate(ends, 1):
        failed = ev.Failed(job=job, attempt=1, reason="FAILED", exit_code=1, message=message, stderr=text(stderr))
        events += [*started(job), failed]
    directory = write_run(root, "r", events)
    return failure_report(FileStore(root), fold_quickly(directory), EventReader(directory))


def test_jobs_that_ended_alike_are_told_once(tmp_path: Path) -> None:
    told = report(tmp_path, [("ValueError: same", TRACE)] * 5 + [("other", "")])
    assert told.startswith("run r failed: 6 jobs failed")
    assert told.count("Traceback") == 1
    assert "  … and 4 more jobs with the same end: 2, 3, 4, 5\n" in told
    assert "job 6 k, attempt 1: FAILED: other" in told
    assert without_head(told).startswith("job 1 k")


def test_the_message_is_not_told_again_as_the_first_line(tmp_path: Path) -> None:
    assert report(tmp_path, [("no such file", "no such file\nusage: …\n")]).count("no such file") == 1


def test_all_failed_jobs_are_counted(tmp_path: Path) -> None:
    told = report(tmp_path, [(f"error {n}", "") for n in range(60)])
    assert told.count("attempt 1:") == 10
    assert "… and 50 more: orch status r --state failed" in told


def test_what_is_short_is_said_in_sizes_that_people_read() -> None:
    room = Capacity(cores=4, memory=1 << 30, disk=1 << 30)
    assert fits(ev.Resources(memory=3 << 29), room) == "memory: wanted 1.5 GiB, available 1 GiB"
    assert (
        fits(ev.Resources(memory=(1 << 30) + 1), room) == "memory: wanted 1073741825 bytes, available 1073741824 bytes"
    )


def test_what_was_lowered_meanwhile_may_be_raised_again() -> None:
    host = Capacity(cores=4, memory=8, disk=8)
    now = Capacity(cores=1, memory=2, disk=2, beyond=host)
    most = ever(now, Settings(cores=2, memory=100))
    assert (most.cores, most.memory, most.disk) == (2, 8, 8)
    assert ever(now, Settings(cores=0.5)).cores == 1  # raised since
    assert ever(host, Settings(cores=99)).cores == 4
