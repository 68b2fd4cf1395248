"""HTCondor at the executable: the dialect speaks with programs that behave as its own do, on a small cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dialects import call, order

from orch.adapters.batch.dialect import Dialect, NotTaken, Order, Reason, Refused, Seen, Stage, Trouble
from orch.adapters.htcondor import HTCondorDialect
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces import htcondor

PATIENT = "trap '' TERM; sleep 1000 & wait; wait"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("htcondor"), slots=3) as found:
        found.install(htcondor.COMMANDS)
        yield found


@pytest.fixture
def cluster(one: Cluster) -> Iterator[Cluster]:
    yield one
    one.set(down=False, nonsense="", paused=False, lose_next="", refuse_next="", history=True)
    for row in one.rows():
        if row.state != "over":
            one.client.cancel([(row.job, row.index)], force=True)
    one.wait(lambda rows: all(row.state == "over" for row in rows))


@pytest.fixture
def dialect() -> Dialect:
    return HTCondorDialect({}, {})


def script(directory: Path, text: str, **changes: Any) -> Order:
    """An order for a script, in a folder with a name that not everybody likes."""
    folder = directory / 'it\'s "ünï" $(HOME)'
    folder.mkdir()
    path = folder / "1.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return order(name=f"o-{directory.name[-40:]}-1", script=str(path), log=str(folder / "1.{index}.log"), **changes)


def look(cluster: Cluster, dialect: Dialect, job: str) -> dict[str, Seen]:
    [command] = dialect.look([job])
    return dialect.seen([call(cluster, command)])


def recall(cluster: Cluster, dialect: Dialect, *tasks: str) -> dict[str, Seen]:
    [command] = dialect.recall(tasks, 0.0)
    return dialect.recalled([call(cluster, command)])


def submit(cluster: Cluster, dialect: Dialect, wanted: Order) -> str:
    return dialect.submitted(wanted, call(cluster, dialect.submit(wanted)))


def over(cluster: Cluster, job: str) -> None:
    cluster.wait(lambda rows: all(row.state == "over" for row in rows if row.job == int(job)))


def test_many_from_submission_to_their_end(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    wanted = script(tmp_path, 'echo "$ORCH_TASK_ID:$ORCH_TASK_INDEX"; exit $((ORCH_TASK_INDEX - 1))', size=3)
    job = submit(cluster, dialect, wanted)
    over(cluster, job)
    assert look(cluster, dialect, job) == {}
    tasks = [dialect.task(job, index, 3) for index in (1, 2, 3)]
    found = recall(cluster, dialect, *tasks)
    ends = [found[task].end for task in tasks]
    assert [(end.reason, end.exit_code) for end in ends if end] == [
        (Reason.FINISHED, 0),
        (Reason.FAILED, 1),
        (Reason.FAILED, 2),
    ]
    assert [*recall(cluster, dialect, tasks[1])] == [tasks[1]]
    assert Path(wanted.log.replace("{index}", "2")).read_text() == f"{job}.1:2\n"


@pytest.mark.parametrize(
    ("text", "changes", "reason", "signal"),
    [
        ("kill -9 $$", {}, Reason.FAILED, 9),
        ("exec sleep 1000", {"walltime": 0.5}, Reason.MAXJOBDURATION, 0),
        (f"exec {sys.executable} -S -c \"x = b'x' * 10**8; input()\" < /dev/zero", {"memory": 1}, Reason.MEMLIMIT, 0),
    ],
)
def test_ends(
    cluster: Cluster, dialect: Dialect, tmp_path: Path, text: str, changes: Any, reason: Reason, signal: int
) -> None:
    job = submit(cluster, dialect, script(tmp_path, text, **changes))
    over(cluster, job)
    task = dialect.task(job, 1, 1)
    # what is held stays in the queue; the rest has left it
    found = look(cluster, dialect, job) if reason is Reason.MEMLIMIT else recall(cluster, dialect, task)
    end = found[task].end
    assert end is not None
    assert (end.reason, end.signal) == (reason, signal)


def test_it_waits_runs_and_is_ended(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    cluster.set(paused=True)
    job = submit(cluster, dialect, script(tmp_path, PATIENT, size=2))
    first, second = (dialect.task(job, index, 2) for index in (1, 2))
    assert look(cluster, dialect, job)[first] == Seen(Stage.QUEUED, "Idle")
    cluster.client.hold(int(job), 2)
    assert look(cluster, dialect, job)[second].stage is Stage.HELD
    cluster.set(paused=False)
    cluster.wait(lambda rows: any(row.state == "running" for row in rows if row.job == int(job)))
    assert look(cluster, dialect, job)[first] == Seen(Stage.RUNNING, "Running", "", "node1")
    [command] = dialect.cancel([first, second, "9999.0"])
    dialect.cancelled(call(cluster, command))
    over(cluster, job)
    ends = [seen.end for seen in recall(cluster, dialect, first, second).values()]
    assert [end.reason for end in ends if end] == [Reason.KILLED, Reason.KILLED]
    dialect.cancelled(call(cluster, command))


def test_what_is_evicted_is_not_waited_for(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    job = submit(cluster, dialect, script(tmp_path, "exec sleep 1000"))
    cluster.wait(lambda rows: any(row.state == "running" for row in rows if row.job == int(job)))
    cluster.set(paused=True)
    cluster.fault("preempt", int(job))
    cluster.wait(lambda rows: any(row.state == "queued" for row in rows if row.job == int(job)))
    end = look(cluster, dialect, job)[dialect.task(job, 1, 1)].end
    assert end is not None
    assert end.reason is Reason.PREEMPTED


def test_it_is_found_by_its_name(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    wanted = script(tmp_path, "exit 0", size=2)
    cluster.set(lose_next="fail")
    with pytest.raises(Trouble) as caught:
        submit(cluster, dialect, wanted)
    assert not isinstance(caught.value, NotTaken)
    names = [wanted.name, f"{wanted.name}-never"]
    found = dialect.found(names, [call(cluster, command) for command in dialect.search(names, 0.0)])
    assert found == {wanted.name: str(cluster.rows()[-1].job)}
    over(cluster, found[wanted.name])
    assert dialect.found(names, [call(cluster, command) for command in dialect.search(names, 0.0)]) == found


def test_it_is_down_refuses_and_says_nonsense(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    wanted = script(tmp_path, "exit 0")
    cluster.set(refuse_next="Jobs must ask for less than 10 GB")
    with pytest.raises(Refused, match="10 GB"):
        submit(cluster, dialect, wanted)
    cluster.set(down=True)
    with pytest.raises(NotTaken, match="schedd"):
        submit(cluster, dialect, wanted)
    for fault in ({"down": True}, {"down": False, "nonsense": "<html>502</html>"}):
        cluster.set(**fault)
        with pytest.raises(Trouble):
            submit(cluster, dialect, wanted)
        with pytest.raises(Trouble):
            look(cluster, dialect, "1")
        with pytest.raises(Trouble):
            recall(cluster, dialect, "1.0")
        with pytest.raises(Trouble):
            dialect.found(["o"], [call(cluster, command) for command in dialect.search(["o"], 0.0)])
        with pytest.raises(Trouble):
            dialect.cancelled(call(cluster, *dialect.cancel(["1.0"])))


def test_what_there_is(cluster: Cluster, dialect: Dialect) -> None:
    room = dialect.room([call(cluster, command) for command in dialect.survey()])
    assert (room.cores, room.node_cores) == (3.0, 3.0)
    assert room.node_memory > 0
