"""The cluster that adapters are tested on: it does what a batch system does, and fails when it is told to."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orch.agent.processes import children, is_zombie
from orch.testing.cluster.client import Client, Nonsense, Rejected, Row, Unreachable
from orch.testing.cluster.control import Cluster

SLEEP = ["sleep", "1000"]
EAT = [sys.executable, "-S", "-c", "x = b'x' * 300_000_000; import time; time.sleep(1000)"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "a directory whose path is longer than that of any socket" / ("x" * 100), slots=2) as found:
        yield found


@pytest.fixture
def client(cluster: Cluster) -> Client:
    """As programs speak to it, faults included."""
    return Client(cluster.directory)


def over(cluster: Cluster, job: int) -> list[Row]:
    """The tasks of a submission, once all are over."""
    rows = cluster.wait(lambda rows: all(row.state == "over" for row in rows if row.job == job))
    return [row for row in rows if row.job == job]


def running(cluster: Cluster, job: int) -> list[Row]:
    """The same once all run."""
    rows = cluster.wait(lambda rows: all(row.state == "running" for row in rows if row.job == job))
    return [row for row in rows if row.job == job]


def ended(pid: int) -> bool:
    return is_zombie(pid)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_a_task_runs_and_leaves_its_exit_code(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    [row] = over(
        cluster, client.submit(shell("echo out; echo err >&2; exit 3"), out=f"{tmp_path}/o", err=f"{tmp_path}/e")
    )
    assert (row.reason, row.code, row.signal, row.host) == ("exit", 3, 0, "node1")
    assert row.submitted <= row.started <= row.ended
    assert (tmp_path / "o").read_text() == "out\n"
    assert (tmp_path / "e").read_text() == "err\n"


def test_what_cannot_be_started_is_over(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    for odd in (["/no such program"], [], ["nul\0"]):
        [row] = over(cluster, client.submit(odd or [str(tmp_path)]))
        assert (row.reason, row.code) == ("exit", 127)
        assert row.why


def test_an_array_has_numbers_in_files_and_variables(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job = client.submit(
        shell('echo "$ID of $N"; kill -9 $$'),
        name="é 'x'\n",
        tasks=range(1, 6),
        variables={"ID": "{job}[{index}]", "N": "{size}"},
        out=f"{tmp_path}/{{job}}.{{index}}",
        extra={"ü": ["\n"]},
    )
    rows = over(cluster, job)
    assert [(row.index, row.reason, row.signal) for row in rows] == [(number, "signal", 9) for number in range(1, 6)]
    assert (rows[0].name, rows[0].extra) == ("é 'x'\n", {"ü": ["\n"]})
    assert (tmp_path / f"{job}.4").read_text() == f"{job}[4] of 5\n"


def test_a_task_gets_the_environment_of_a_login(
    cluster: Cluster, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_OURS", "1")
    over(cluster, client.submit(["/usr/bin/env"], out=f"{tmp_path}/o"))
    assert "ONLY_OURS" not in (tmp_path / "o").read_text()
    over(cluster, client.submit(["/usr/bin/env"], env={"A": "ü"}, cwd=str(tmp_path), out=f"{tmp_path}/p"))
    assert "A=ü" in (tmp_path / "p").read_text().splitlines()


def test_who_does_not_fit_waits_and_says_why(cluster: Cluster, client: Client) -> None:
    first = client.submit(SLEEP, cores=2)
    second, third, never = (
        client.submit(["true"]),
        client.submit(["true"], priority=1),
        client.submit(["true"], cores=3),
    )
    running(cluster, first)
    assert {row.job: row.why for row in client.jobs() if row.job != first} == dict.fromkeys(
        (second, third, never), "Priority"
    )
    client.cancel([(first, None)])
    assert over(cluster, third)[0].started <= over(cluster, second)[0].started
    cluster.wait(lambda rows: rows[-1].why == "Resources")
    assert client.nodes()[0]["cores"] == 2


def test_what_is_held_waits_until_it_is_released(cluster: Cluster, client: Client) -> None:
    held = client.submit(["true"], hold=True)
    over(cluster, client.submit(["true"]))
    assert [(row.job, row.state, row.why) for row in client.jobs()] == [(held, "held", "Held")]
    client.release(held)
    over(cluster, held)


def test_to_cancel_ends_all_that_descends_from_a_task(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    script = f"trap '' TERM; (setsid sleep 1000 & echo $! > {tmp_path}/a); env -i setsid sleep 1000 & sleep 1000; wait"
    job = client.submit(shell(script), grace=0.1)
    [row] = running(cluster, job)
    cluster.wait(lambda _: len(children(row.pid)) == 2 and (tmp_path / "a").exists() and (tmp_path / "a").read_text())
    pids = [row.pid, int((tmp_path / "a").read_text()), *children(row.pid)]
    assert client.cancel([(job, None), (99, None), (job, 4)]) == [(99, None), (job, 4)]
    assert client.jobs()[0].state == "ending"
    [row] = over(cluster, job)
    assert (row.reason, row.signal) == ("cancelled", 9)
    cluster.wait(lambda _: all(map(ended, pids)))
    assert client.cancel([(job, None)]) == [(job, None)]


def test_what_a_task_leaves_behind_is_ended(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    over(cluster, client.submit(shell(f"setsid sleep 1000 & echo $! > {tmp_path}/a")))
    pid = int((tmp_path / "a").read_text())
    cluster.wait(lambda _: ended(pid))


def test_to_cancel_what_waits_never_starts_it(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    cluster.set(paused=True)
    job = client.submit(["touch", f"{tmp_path}/ran"], tasks=[1, 2])
    assert client.cancel([(job, 1)]) == []
    cluster.set(paused=False)
    assert [row.reason for row in over(cluster, job)] == ["cancelled", "exit"]


def test_limits_of_time_and_memory(cluster: Cluster, client: Client) -> None:
    late = client.submit(shell("trap 'exit 5' USR1; sleep 1000 & wait"), walltime=0.2, first="USR1", grace=20)
    fat = client.submit(EAT, memory=100_000_000)
    assert [(row.reason, row.code) for row in over(cluster, late)] == [("walltime", 5)]
    [row] = over(cluster, fat)
    assert (row.reason, row.signal) == ("memory", 9)
    assert row.used > row.memory


def test_what_is_over_is_in_the_queue_or_in_the_records_or_nowhere(cluster: Cluster, client: Client) -> None:
    job = client.submit(["true"])
    over(cluster, job)
    assert client.jobs() == []
    assert [row.state for row in client.history([job])] == ["over"]
    assert client.history([job + 1]) == client.history(since=cluster.rows()[0].submitted + 1) == []
    cluster.set(history_lag=1000, linger=1000)
    assert ([row.state for row in client.jobs()], client.history()) == (["over"], [])
    cluster.set(history=False, history_lag=0, linger=0)
    assert client.jobs() == client.history() == []


def test_down_and_nonsense(cluster: Cluster, client: Client) -> None:
    cluster.set(down=True)
    with pytest.raises(Unreachable):
        client.submit(["true"])
    with pytest.raises(Unreachable):
        client.jobs()
    cluster.set(down=False, nonsense="<html>")
    with pytest.raises(Nonsense, match="<html>"):
        client.jobs()
    cluster.set(nonsense="", slow=0.2)
    assert client.jobs() == []
    assert cluster.counts() == {"submit": 1, "jobs": 3}
    with pytest.raises(Unreachable, match="no setting"):
        cluster.set(nothing=1)


def test_a_submission_is_refused_or_its_answer_lost(cluster: Cluster, client: Client) -> None:
    cluster.set(refuse_next="no such queue")
    with pytest.raises(Rejected, match="no such queue"):
        client.submit(["true"])
    assert cluster.rows() == []
    cluster.set(lose_next="fail")
    with pytest.raises(Unreachable):
        client.submit(["true"], name="lost")
    over(cluster, client.submit(["true"], name="not lost"))
    assert [row.name for row in cluster.rows()] == ["lost", "not lost"]


def test_an_answer_that_never_comes(cluster: Cluster) -> None:
    cluster.set(lose_next="hang")
    program = "import sys; from orch.testing.cluster.client import Client; Client(sys.argv[1]).submit(['true'])"
    with subprocess.Popen([sys.executable, "-c", program, cluster.directory]) as asking:
        cluster.wait(lambda rows: len(rows) == 1 and rows[0].state == "over")
        assert asking.poll() is None
        asking.kill()
    assert over(cluster, cluster.client.submit(["true"]))


def test_what_is_forgotten_goes_on(cluster: Cluster, client: Client) -> None:
    job = client.submit(SLEEP)
    [row] = running(cluster, job)
    assert cluster.fault("forget", job) == 1
    assert client.jobs() == client.history() == []
    assert client.cancel([(job, None)]) == [(job, None)]
    assert not ended(row.pid)
    over(cluster, client.submit(shell("setsid sleep 1000 &")))
    assert not ended(row.pid)


def test_a_node_is_lost(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job, again = client.submit(SLEEP), client.submit(shell(f"echo . >> {tmp_path}/n; sleep 1000"), requeue=True)
    running(cluster, again)
    cluster.lose_node("node1")
    assert [row.reason for row in over(cluster, job)] == ["node"]
    cluster.wait(lambda rows: (rows[-1].state, rows[-1].why) == ("queued", "Nodes"))
    cluster.restore_node("node1")
    cluster.wait(lambda rows: (rows[-1].restarts, rows[-1].state) == (1, "running"))


def test_a_place_is_taken_away(cluster: Cluster, client: Client) -> None:
    job = client.submit(SLEEP)
    running(cluster, job)
    cluster.fault("preempt", job)
    assert [(row.reason, row.signal) for row in over(cluster, job)] == [("preempted", 15)]


def test_other_faults(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job = client.submit(shell(f"echo $$ >> {tmp_path}/pids; sleep 1000"))
    running(cluster, job)
    cluster.fault("copy", job)
    cluster.wait(lambda _: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    cluster.fault("strange", job, word="BANANA")
    cluster.set(twice=True)
    assert [row.state for row in client.jobs()] == ["BANANA", "BANANA"]
    cluster.fault("strange", job, word="")
    cluster.fault("oom", job)
    assert over(cluster, job)[0].reason == "memory"
    cluster.wait(lambda _: all(ended(int(pid)) for pid in (tmp_path / "pids").read_text().split()))


def test_what_a_cluster_runs_ends_with_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, slots=1) as cluster:
        [row] = running(cluster, cluster.client.submit(SLEEP))
    assert ended(row.pid)
    with Cluster(tmp_path, slots=1) as again:
        assert again.client.submit(["true"]) > row.job


@pytest.mark.parametrize("whom", ["the daemon", "who has started it"])
def test_nothing_is_left_if_somebody_is_killed(tmp_path: Path, whom: str) -> None:
    program = (
        "import sys; from orch.testing.cluster.control import Cluster; cluster = Cluster(sys.argv[1], slots=1);"
        "cluster.start(); cluster.client.submit(['sleep', '1000']);"
        "print(cluster.pid, cluster.wait(lambda rows: rows[0].state == 'running')[0].pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        guardian, pid = map(int, starter.stdout.readline().split())
        [daemon] = children(guardian)
        watched = [os.pidfd_open(each) for each in (guardian, daemon, pid)]
        os.kill(daemon if whom == "the daemon" else starter.pid, signal.SIGKILL)
        for descriptor in watched:
            wait_for(descriptor)
        starter.kill()


def wait_for(descriptor: int) -> None:
    """The end of the process behind a pidfd, which is closed."""
    ready, _, _ = select.select([descriptor], [], [], 20)
    os.close(descriptor)
    assert ready


def test_many_tasks(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job = client.submit(shell(f"echo $N >> {tmp_path}/n"), tasks=range(1, 201), variables={"N": "{index}"})
    assert [row.code for row in over(cluster, job)] == [0] * 200
    assert sorted(map(int, (tmp_path / "n").read_text().split())) == list(range(1, 201))
