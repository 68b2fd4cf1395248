"""Who still counts as the holder of a lock: the rules as a table, and what they are fed with, for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from orch.bus.lease import (
    LEASE,
    RENEW,
    Grip,
    Holder,
    Verdict,
    alive,
    busy_message,
    judge,
    same_host,
    server_time,
    this_process,
)

HERE = Holder(host="here", pid=7, boot="b1", space=11, began=500)
SAME = Holder(host="here", pid=8, boot="b1", space=11, began=400)
REBOOTED = Holder(host="here", pid=8, boot="b0", space=11, began=400)
OTHER = Holder(host="there", pid=8, boot="b2", space=11, began=400)
CONTAINER = Holder(host="here", pid=8, boot="b1", space=12, began=400)
OLD = Holder(host="here", pid=8, boot="b1")
NAMELESS = Holder(host="here", pid=8)

RULES: list[tuple[Grip, Holder | None, bool, float, Verdict]] = [
    # the kernel says no: whatever else is known
    ("refused", None, False, 0, "busy"),
    ("refused", SAME, False, 1e9, "busy"),
    ("refused", REBOOTED, False, 1e9, "busy"),
    ("refused", OTHER, False, 1e9, "busy"),
    # nobody has signed
    ("held", None, True, 0, "free"),
    ("unsupported", None, True, 0, "free"),
    # of this host: the kernel knows, or the table of processes; the age does not matter
    ("held", SAME, True, 0, "dead"),
    ("held", SAME, False, 0, "dead"),
    ("unsupported", SAME, True, 0, "busy"),
    ("unsupported", SAME, True, 1e9, "busy"),
    ("unsupported", SAME, False, 0, "dead"),
    # of this host, before it was booted
    ("held", REBOOTED, True, 0, "dead"),
    ("unsupported", REBOOTED, True, 0, "dead"),
    # signed by an older orch
    ("held", OLD, True, 0, "dead"),
    ("unsupported", OLD, True, 0, "busy"),
    ("unsupported", OLD, False, 0, "dead"),
    # on a host that does not tell its boot id
    ("unsupported", NAMELESS, True, 0, "busy"),
    ("unsupported", NAMELESS, False, 0, "dead"),
]

AGES: list[tuple[float, Verdict]] = [
    (0.0, "busy"),
    (LEASE - 0.1, "busy"),
    (LEASE, "dead"),
    (1e9, "dead"),
    (-LEASE, "busy"),
    (-LEASE - 0.1, "dead"),
    (-1e9, "dead"),
]


@pytest.mark.parametrize(("grip", "holder", "there", "age", "verdict"), RULES)
def test_the_rules(grip: Grip, holder: Holder | None, there: bool, age: float, verdict: Verdict) -> None:
    assert judge(holder, HERE, grip, alive=there, age=age) == verdict


@pytest.mark.parametrize(("age", "verdict"), AGES)
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("holder", [OTHER, CONTAINER])
@pytest.mark.parametrize("grip", ["held", "unsupported"])
def test_elsewhere_the_age_alone_matters(grip: Grip, holder: Holder, there: bool, age: float, verdict: Verdict) -> None:
    """On another host, and in another container with this one's name."""
    assert judge(holder, HERE, grip, alive=there, age=age) == verdict


def test_a_lease_outlives_several_renewals() -> None:
    assert LEASE >= 4 * RENEW


# The processes of this host ---------------------------------------------------------------------------------------


def test_this_process_is_alive_and_on_this_host() -> None:
    me = this_process()
    assert alive(me)
    assert same_host(me, this_process())
    assert me.pid == os.getpid()
    assert me.space > 0
    assert me.began > 0


def test_a_pid_that_is_used_again_is_another_process() -> None:
    me = this_process()
    assert not alive(msgspec.structs.replace(me, began=me.began - 1))
    assert alive(msgspec.structs.replace(me, began=0)), "an older orch did not say"


def test_a_process_that_has_ended_is_dead_before_and_after_it_is_reaped() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(Holder("here", process.pid))
        process.wait()
        assert not alive(Holder("here", process.pid))


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_what_is_no_pid_is_no_process(pid: int) -> None:
    assert not alive(Holder("here", pid))


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert alive(Holder("here", 2**30)), "it cannot be looked at"
    me = this_process()
    assert alive(me)
    assert not alive(msgspec.structs.replace(me, began=me.began - 1))


def test_where_proc_tells_nothing_a_process_counts_by_its_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> bytes:
        raise OSError

    monkeypatch.setattr(Path, "read_bytes", nothing)
    monkeypatch.setattr(os, "stat", nothing)
    me = this_process()
    assert (me.began, me.space) == (0, 0)
    assert alive(me)


# The file server's clock ------------------------------------------------------------------------------------------


def test_the_servers_time_is_that_of_a_file_written_now(tmp_path: Path) -> None:
    one = server_time(tmp_path)
    (tmp_path / "file").touch()
    two = server_time(tmp_path)
    assert one <= (tmp_path / "file").stat().st_mtime <= two
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_this_hosts_clock_does_not_matter(tmp_path: Path) -> None:
    """A process whose clock cannot be asked for learns the time all the same."""
    code = (
        "import sys, time; from pathlib import Path; from orch.bus.lease import server_time; time.time = None; "
        "print(server_time(Path(sys.argv[1])))"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(said.stdout) <= server_time(tmp_path)


# What is said -----------------------------------------------------------------------------------------------------

SIGNED = Holder("there", 7, since="then", user="ann")
LEADS = "the run r has a live leader: process 7 on there of user ann, since then"
HANGS = "if it hangs, take over with --take-over"
SEEMS = (
    LEADS.replace("has", "seems to have")
    + "; unless renewed, its lease ends in 17 s: try again then, or, if that leader is known to be dead, "
    "take over with --take-over"
)


@pytest.mark.parametrize(
    ("holder", "grip", "age", "text"),
    [
        (None, "refused", None, "the run r has a live leader (it has not said who it is)"),
        (SIGNED, "refused", 3.0, f"{LEADS}; {HANGS}"),
        (SIGNED, "unsupported", None, LEADS),
        (Holder("there", 7, since="then"), "unsupported", None, LEADS.replace(" of user ann", "")),
        (SIGNED, "refused", 45.2, f"{LEADS}; it has been silent for 45 s: {HANGS}"),
        (SIGNED, "held", 13.1, SEEMS),
    ],
)
def test_the_message(holder: Holder | None, grip: Grip, age: float | None, text: str) -> None:
    assert busy_message("r", holder, grip, age) == text
