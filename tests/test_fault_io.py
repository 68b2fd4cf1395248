"""Input and output that fail: of the log, by each of its operations, and of the store, where workers write to it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from support.kills import FAULTY, NIGHTLY, Case, agent_ends

from orch.bus.events import Retrying

BROKEN = "Input/output error"
OPERATIONS = {"create": 1, "write": 25, "sync": 25, "exists": 25, "list": 2, "open": 8, "read": 12, "sync_dir": 1}
"""And about how often a leader calls each."""


def moments(operation: str) -> list[int]:
    """At which calls to fail: the first one, and another; with ORCH_NIGHTLY=1 all."""
    count = OPERATIONS[operation]
    if NIGHTLY or count < 4:
        return list(range(1, count + 1))
    return [1, random.Random(operation).randint(2, count)]


@pytest.mark.timeout(1800 if NIGHTLY else 120)
@pytest.mark.parametrize(
    ("operation", "once"), [*((each, False) for each in OPERATIONS), ("write", True), ("sync", True)]
)
def test_the_log_fails(tmp_path: Path, operation: str, *, once: bool) -> None:
    """The leader stops with exit 6 and says so; what it does not know to be durable counts only if the next finds it.

    A failure that does not come again is as final.
    """
    failed = 0
    with agent_ends(tmp_path / "s"):
        for at in moments(operation):
            case = Case(tmp_path, f"r{at}")
            found = case.call([*case.sabotage(at=at, operation=operation, once=once), *case.begin()])
            if found.returncode == 0:
                case.check(found)  # it was not called so often
                continue
            check_message(found.returncode, found.stdout, found.stderr)
            case.check(case.finish())
            failed += 1
    assert failed


@pytest.mark.timeout(1800 if NIGHTLY else 120)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_log_fails_while_a_leader_takes_over(tmp_path: Path, operation: str) -> None:
    """The same, and the one after that carries the run on."""
    failed = 0
    with agent_ends(tmp_path / "s"):
        for at in moments(operation):
            case = Case(tmp_path, f"r{at}", seconds=0.02)
            case.call([*case.sabotage(at=40, do=["leader"]), *case.begin()])
            found = case.call([*case.sabotage(at=at, operation=operation), *case.carry_on()])
            if found.returncode:
                check_message(found.returncode, found.stdout, found.stderr)
                found = case.finish()
                failed += 1
            case.check(found)
    assert failed


def check_message(code: int, out: str, err: str) -> None:
    """One message, which names the file and the reason."""
    assert code == 6, err
    assert out == ""
    assert BROKEN in err
    assert "Traceback" not in err
    assert "internal error" not in err
    assert err.count("orch: ") == 1, err


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync_directory"])
def test_the_disk_fails_under_a_worker(tmp_path: Path, operation: str) -> None:
    """Its attempt ends with an error that names the file; the next try is a good one. Nothing half is left."""
    trigger = tmp_path / "trigger"
    trigger.touch()
    case = Case(tmp_path, "r")
    fault = ["--set-env", f"SABOTAGE_DISK={operation}:{trigger}", "--retries", "1"]
    with agent_ends(tmp_path / "s"):
        path = f"{FAULTY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
        done = case.call([*case.sabotage(), *case.begin(*fault)], PYTHONPATH=path)
        case.check(done)
        assert not trigger.exists()
        failed = [event for event in case.events() if isinstance(event, Retrying) and event.reason == "ERROR"]
        assert len(failed) == 1
        assert BROKEN in failed[0].message
        assert not list((case.store / "runs/r").rglob(".orch-tmp-*"))
