"""LSF at the executable: the dialect speaks with programs that behave as LSF's do, on a small cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dialects import call, order

from orch.adapters.batch.dialect import Command, Dialect, NotTaken, Order, Reason, Refused, Seen, Stage, Trouble
from orch.adapters.lsf import LsfDialect
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces import lsf

PATIENT = "trap '' INT TERM; sleep 1000 & wait; wait"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("lsf"), slots=3, linger=3600) as found:
        found.install(lsf.COMMANDS)
        yield found


@pytest.fixture
def cluster(one: Cluster) -> Iterator[Cluster]:
    yield one
    one.set(down=False, nonsense="", paused=False, lose_next="", refuse_next="", linger=3600)
    for row in one.rows():
        if row.state != "over":
            one.client.cancel([(row.job, row.index)], force=True)
    one.wait(lambda rows: all(row.state == "over" for row in rows))


@pytest.fixture
def dialect() -> Dialect:
    return LsfDialect({}, {})


def script(directory: Path, text: str, **changes: Any) -> Order:
    """An order for a script, in a folder whose name has to be quoted."""
    folder = directory / 'it\'s "ünï" $HOME'
    folder.mkdir()
    path = folder / "1.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return order(name=f"o-{directory.name[-40:]}-1", script=str(path), log=str(folder / "1.{index}.log"), **changes)


def ask(cluster: Cluster, dialect: Dialect, commands: Any) -> dict[str, Seen]:
    [command] = commands
    return dialect.seen([call(cluster, command)])


def submit(cluster: Cluster, dialect: Dialect, wanted: Order) -> str:
    return dialect.submitted(wanted, call(cluster, dialect.submit(wanted)))


def over(cluster: Cluster, job: str) -> None:
    cluster.wait(lambda rows: all(row.state == "over" for row in rows if row.job == int(job)))


def running(cluster: Cluster, job: str) -> None:
    cluster.wait(lambda rows: all(row.state == "running" for row in rows if row.job == int(job)))


def test_an_array_from_submission_to_its_end(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    wanted = script(tmp_path, 'echo "$LSB_JOBID:$LSB_JOBINDEX:$HOME"; exit $((LSB_JOBINDEX - 1))', size=3)
    job = submit(cluster, dialect, wanted)
    over(cluster, job)
    found = ask(cluster, dialect, dialect.look([job]))
    assert [*found] == [dialect.task(job, index, 3) for index in (1, 2, 3)]
    ends = [seen.end for seen in found.values()]
    assert [(end.reason, end.exit_code) for end in ends if end] == [
        (Reason.FINISHED, 0),
        (Reason.FAILED, 1),
        (Reason.FAILED, 2),
    ]
    assert Path(wanted.log.replace("{index}", "2")).read_text().startswith(f"{job}:2:/")


@pytest.mark.parametrize(
    ("text", "changes", "reason", "signal"),
    [
        ("kill -9 $$", {}, Reason.FAILED, 9),
        ("exec sleep 1000", {"walltime": 60}, Reason.MAXJOBDURATION, 12),
        (f"exec {sys.executable} -S -c \"x = b'x' * 10**8; input()\" < /dev/zero", {"memory": 1}, Reason.MEMLIMIT, 9),
    ],
)
def test_ends(
    cluster: Cluster, dialect: Dialect, tmp_path: Path, text: str, changes: Any, reason: Reason, signal: int
) -> None:
    wanted = script(tmp_path, text, **changes)
    command = dialect.submit(wanted)
    if wanted.walltime:  # LSF counts in minutes
        at = command.argv.index("-W")
        assert command.argv[at + 1] == "1"
        command = Command([*command.argv[:at], "-W", "0.01", *command.argv[at + 2 :]], command.stdin, command.env)
    job = dialect.submitted(wanted, call(cluster, command))
    over(cluster, job)
    for found in (
        ask(cluster, dialect, dialect.look([job])),
        dialect.recalled([call(cluster, *dialect.recall([job], 0.0))]),
    ):
        end = found[job].end
        assert end is not None
        assert (end.reason, end.signal, end.exit_code) == (reason, signal, None)


def test_it_waits_runs_and_is_ended(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    cluster.set(paused=True)
    job = submit(cluster, dialect, script(tmp_path, PATIENT, size=2))
    task = dialect.task(job, 1, 2)
    waits = ask(cluster, dialect, dialect.look([job]))
    assert {(seen.stage, seen.why) for seen in waits.values()} == {
        (Stage.QUEUED, "New job is waiting for scheduling;"),
    }
    cluster.client.hold(int(job), 2)
    assert ask(cluster, dialect, dialect.look([job]))[dialect.task(job, 2, 2)].stage is Stage.HELD
    cluster.set(paused=False)
    cluster.wait(lambda rows: any(row.state == "running" for row in rows if row.job == int(job)))
    assert ask(cluster, dialect, dialect.look([job]))[task] == Seen(Stage.RUNNING, "RUN", "", "node1")
    tasks = [*waits, dialect.task("9999", 1, 1)]
    [command] = dialect.cancel(tasks)
    dialect.cancelled(call(cluster, command))
    over(cluster, job)
    ends = [seen.end for seen in ask(cluster, dialect, dialect.look([job])).values()]
    assert {end.reason for end in ends if end} == {Reason.KILLED}
    dialect.cancelled(call(cluster, command))


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
    assert dialect.found(["o-x"], [call(cluster, command) for command in dialect.search(["o-x"], 0.0)]) == {}


def test_it_is_down_refuses_and_says_nonsense(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    wanted = script(tmp_path, "exit 0")
    cluster.set(refuse_next="x: No such queue")
    with pytest.raises(Refused, match="No such queue"):
        submit(cluster, dialect, wanted)
    cluster.set(down=True)
    with pytest.raises(NotTaken, match="LIM"):
        submit(cluster, dialect, wanted)
    for fault in ({"down": True}, {"down": False, "nonsense": "<html>502</html>"}):
        cluster.set(**fault)
        with pytest.raises(Trouble):
            submit(cluster, dialect, wanted)
        with pytest.raises(Trouble):
            ask(cluster, dialect, dialect.look(["1"]))
        with pytest.raises(Trouble):
            dialect.recalled([call(cluster, *dialect.recall(["1"], 0.0))])
        with pytest.raises(Trouble):
            dialect.found(["o"], [call(cluster, *dialect.search(["o"], 0.0))])
        with pytest.raises(Trouble):
            dialect.cancelled(call(cluster, *dialect.cancel(["1"])))


def test_what_it_has_forgotten_is_in_its_records(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    job = submit(cluster, dialect, script(tmp_path, "exit 4", size=2))
    over(cluster, job)
    cluster.set(linger=0)
    assert ask(cluster, dialect, dialect.look([job])) == {}
    task = dialect.task(job, 2, 2)
    found = dialect.recalled([call(cluster, *dialect.recall([task], 0.0))])
    assert [*found] == [task]
    assert [seen.end.exit_code for seen in found.values() if seen.end] == [4]
    assert dialect.recalled([call(cluster, *dialect.recall(["9999"], 0.0))]) == {}


def test_an_old_lsf(cluster: Cluster, dialect: Dialect, tmp_path: Path) -> None:
    job = submit(cluster, dialect, script(tmp_path, "exit 3", size=2))
    over(cluster, job)
    mark = Path(cluster.directory) / "old-lsf"
    mark.touch()
    try:
        with pytest.raises(Trouble, match="table"):
            ask(cluster, dialect, dialect.look([job]))
        found = ask(cluster, dialect, dialect.look([job, "9999"]))
    finally:
        mark.unlink()
    assert [seen.end.exit_code for seen in found.values() if seen.end] == [3, 3]


def test_what_there_is(cluster: Cluster, dialect: Dialect) -> None:
    room = dialect.room([call(cluster, command) for command in dialect.survey()])
    assert (room.cores, room.node_cores) == (3.0, 3.0)
    assert room.node_memory > 0
