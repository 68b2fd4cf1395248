"""A leader that is stopped in the middle of an append, and wakes up when another one has taken over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.kills import NIGHTLY, PATIENCE, Case, agent_ends

from orch.api import _root_cause
from orch.errors import Fenced, LogTrouble
from orch.store.layout import lock_file

LEASE = 3600.0


@contextmanager
def stopped(case: Case, at: int, when: str, **plan: Any) -> Iterator[subprocess.Popen[str]]:
    """A leader that has stopped itself at an event; killed at the end of the block if it still lives."""
    process = subprocess.Popen(
        [*case.sabotage(at=at, when=when, do=["stop"], **plan), *case.begin()],
        cwd=case.place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_two_tasks_that_find_it_out_at_once_tell_it_once() -> None:
    """The one that renews the lease, and the one that appends. A bug beside them is not hidden."""
    group = ExceptionGroup("", [Fenced("first"), ExceptionGroup("", [LogTrouble("second")])])
    assert str(_root_cause(group)) == "first"
    mixed = ExceptionGroup("", [Fenced("first"), ValueError("a bug")])
    assert _root_cause(mixed) is mixed


@pytest.mark.parametrize("when", ["before", "torn", "behind", "synced", "checked"])
def test_it_wakes_up_and_finds_itself_fenced(tmp_path: Path, when: str) -> None:
    """Whatever it still writes is void. It says so, and exits with 3."""
    moments = range(14, 70) if NIGHTLY else sorted(random.Random(when).sample(range(14, 70), 2))
    with agent_ends(tmp_path / "s"):
        for at in moments:
            case = Case(tmp_path, f"r{at}", seconds=0.02)
            with stopped(case, at, when) as first:
                segment = case.log / "000001.events.jsonl"
                written = segment.read_bytes()
                case.check(case.finish("--take-over"))
                before = case.events()
                first.send_signal(signal.SIGCONT)
                out, err = first.communicate(timeout=PATIENCE)
            assert first.returncode == 3, err
            assert out == ""
            if when == "checked":  # this commit is a good one; the log or the agent tells what is wrong with the next
                assert "epoch 2" in err
            else:
                assert "another leader has taken over (epoch 2)" in err
            assert "Traceback" not in err
            assert case.events() == before, "what it wrote was not void"
            after = segment.read_bytes()
            assert after.startswith(written)
            assert when not in ("before", "torn") or after != written, "it does write, too late"
            case.check_bodies(before)


@pytest.mark.parametrize("when", ["torn", "behind"])
def test_on_another_host_its_lease_ends(tmp_path: Path, when: str) -> None:
    """Where there are no locks, and nobody says --take-over: the first leader is believed alive until then."""
    case = Case(tmp_path, "r", seconds=0.02)
    lock = case.store / lock_file("r")
    with agent_ends(tmp_path / "s"), stopped(case, 30, when, host="one", lease=LEASE) as first:
        other = [*case.sabotage(at=10**9, host="other", lease=LEASE), *case.carry_on()]
        refused = case.call(other)
        assert refused.returncode == 3, refused.stderr
        assert f"process {first.pid} on one" in refused.stderr
        assert "its lease ends in" in refused.stderr
        then = lock.stat().st_mtime - LEASE  # as if it had been silent for so long
        os.utime(lock, (then, then))
        case.check(case.call(other))
        before = case.events()
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=PATIENCE)
        assert first.returncode == 3, err
        assert "another leader has taken over (epoch 2)" in err
        assert case.events() == before
