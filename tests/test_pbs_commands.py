"""PBS and Torque at the executable: the dialects' commands, called, on a cluster that behaves as those do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orch.adapters.batch.dialect import Answer, Command, NotTaken, Order, Refused, Seen, Stage, Trouble
from orch.adapters.pbs.dialect import Pbs
from orch.adapters.pbs.qsub import Qsub
from orch.adapters.torque import Torque
from orch.attempt import Reason
from orch.testing.cluster.client import Row
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.faces import pbs, torque


class Site(NamedTuple):
    cluster: Cluster
    dialect: Qsub
    folder: Path

    def call(self, command: Command) -> Answer:
        path = f"{self.cluster.bin}:{os.environ['PATH']}"
        done = subprocess.run(
            command.argv,
            input=command.stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PATH": path},
        )
        return Answer(command, done.returncode, done.stdout, done.stderr)

    def answers(self, commands: Sequence[Command]) -> list[Answer]:
        return [self.call(command) for command in commands]

    def order(self, script: str, **fields: Any) -> Order:
        path = self.folder / f"task ${len(list(self.folder.iterdir()))}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        given = {"name": "o-1a2b3c4d-1-1", "label": "a job", "size": 1, "log": f"{self.folder}/it's {{index}}.log"}
        return Order(script=str(path), **{**given, **fields})

    def submit(self, script: str, **fields: Any) -> str:
        order = self.order(script, **fields)
        return self.dialect.submitted(order, self.call(self.dialect.submit(order)))

    def look(self, *jobs: str) -> dict[str, Seen]:
        return self.dialect.seen(self.answers(self.dialect.look(jobs)))

    def wait(self, state: str) -> list[Row]:
        return self.cluster.wait(lambda rows: rows and all(row.state == state for row in rows))


DIALECTS: dict[str, tuple[type[Qsub], dict[str, str], dict[str, Any]]] = {
    "pbs": (Pbs, pbs.COMMANDS, {}),
    "torque": (Torque, torque.COMMANDS, {"linger": 300.0}),
}


@pytest.fixture(params=DIALECTS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    dialect, commands, settings = DIALECTS[request.param]
    with Cluster(tmp_path / "cluster", slots=4, **settings) as cluster:
        cluster.install(commands)
        yield Site(cluster, dialect({}, {}), tmp_path)


def test_tasks_of_an_array_find_their_numbers(site: Site) -> None:
    variable = site.dialect.index_variable
    job = site.submit(f'echo "$PBS_JOBID ${variable}"; exit ${variable}', size=3)
    site.wait("over")
    seen = site.look(job)
    assert list(seen) == [site.dialect.task(job, index, 3) for index in (1, 2, 3)]
    assert [each.end.exit_code for each in seen.values() if each.end] == [1, 2, 3]
    for index in (1, 2, 3):
        log = (site.folder / f"it's {index}.log").read_text()
        assert log == f"{site.dialect.task(job, index, 3)} {index}\n"


def test_one_task_as_it_waits_runs_and_ends(site: Site) -> None:
    site.cluster.set(paused=True)
    job = site.submit("exec sleep 1000", cores=2, memory=1 << 30, walltime=1000)
    assert site.look(job)[job].stage is Stage.QUEUED
    site.cluster.set(paused=False)
    site.wait("running")
    assert site.look(job)[job] == Seen(Stage.RUNNING, "R", host="node1")
    (command,) = site.dialect.cancel([job])
    site.dialect.cancelled(site.call(command))
    site.wait("over")
    seen = site.look(job)[job]
    assert seen.end is not None
    assert (seen.end.reason, seen.end.signal) == (Reason.KILLED, 15)
    site.dialect.cancelled(site.call(command))  # it is over


def test_a_task_that_never_began_is_over_at_once(site: Site) -> None:
    site.cluster.set(paused=True)
    job = site.submit("true", size=2)
    task = site.dialect.task(job, 2, 2)
    site.dialect.cancelled(site.answers(site.dialect.cancel([task]))[0])
    seen = site.look(job)
    assert [seen[site.dialect.task(job, index, 2)].stage for index in (1, 2)] == [Stage.QUEUED, Stage.OVER]
    end = seen[task].end
    assert end is not None
    assert end.reason is Reason.KILLED


def test_limits(site: Site) -> None:
    eater = "python3 -S -c 'x = b\"x\" * 300000000; import time; time.sleep(1000)'"
    large = site.submit(eater, memory=50 << 20)
    long = site.submit("exec sleep 1000", walltime=1)
    site.wait("over")
    seen = site.look(large, long)
    assert [each.end.reason for each in seen.values() if each.end] == [Reason.MEMLIMIT, Reason.MAXJOBDURATION]


def test_what_is_not_known_is_not_there(site: Site) -> None:
    site.cluster.set(paused=True)
    job = site.submit("true")
    assert list(site.look("999.head.cluster", job)) == [job]
    assert site.look("999[].head.cluster") == {}
    site.dialect.cancelled(site.answers(site.dialect.cancel(["999.head.cluster"]))[0])


def test_why_it_waits(site: Site) -> None:
    site.cluster.lose_node("node1")
    job = site.submit("true")
    site.cluster.wait(lambda rows: rows[0].why == "Nodes")
    assert site.look(job)[job].why == "Not Running: Node is in an ineligible state: down"


def test_found_by_name(site: Site) -> None:
    site.cluster.set(paused=True)
    jobs = [site.submit("true", name=f"o-1a2b3c4d-1-{size}", size=size) for size in (1, 2)]
    names = [f"o-1a2b3c4d-1-{size}" for size in (1, 2, 3)]
    found = site.dialect.found(names, site.answers(site.dialect.search(names, 0.0)))
    assert found == dict(zip(names[:2], jobs, strict=True))


def test_nothing_is_found_where_there_is_nothing(site: Site) -> None:
    assert site.dialect.found(["o-1"], site.answers(site.dialect.search(["o-1"], 0.0))) == {}


def test_a_server_that_is_down(site: Site) -> None:
    job = site.submit("true")
    order = site.order("true")
    site.cluster.set(down=True)
    with pytest.raises(Trouble) as caught:
        site.dialect.submitted(order, site.call(site.dialect.submit(order)))
    assert type(caught.value) is Trouble
    with pytest.raises(Trouble):
        site.look(job)
    with pytest.raises(Trouble):
        site.dialect.found([order.name], site.answers(site.dialect.search([order.name], 0.0)))
    with pytest.raises(Trouble):
        site.dialect.cancelled(site.answers(site.dialect.cancel([job]))[0])
    with pytest.raises(Trouble):
        site.dialect.room(site.answers(site.dialect.survey()))


def test_nonsense(site: Site) -> None:
    order = site.order("true")
    site.cluster.set(nonsense="Segmentation fault (core dumped)")
    with pytest.raises(Trouble):
        site.dialect.submitted(order, site.call(site.dialect.submit(order)))
    with pytest.raises(Trouble):
        site.look("1.head.cluster")


@pytest.mark.parametrize(
    ("text", "kind"), [("Unknown queue", Refused), ("Maximum number of jobs already in queue", NotTaken)]
)
def test_what_is_refused(site: Site, text: str, kind: type[Exception]) -> None:
    site.cluster.set(refuse_next=text)
    with pytest.raises(kind, match=text):
        site.submit("true")


def test_room(site: Site) -> None:
    room = site.dialect.room(site.answers(site.dialect.survey()))
    assert (room.cores, room.node_cores) == (4, 4)
    assert room.node_memory > 1 << 20


@pytest.mark.parametrize("release", ["pbs-without-json", "pbs-bad-json", "pbs-lossy-json"])
def test_releases_of_pbs_whose_json_is_of_no_use(tmp_path: Path, release: str) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.install(pbs.COMMANDS)
        site = Site(cluster, Pbs({}, {}), tmp_path)
        (Path(cluster.directory) / release).touch()
        jobs = [site.submit("true"), site.submit("true")]
        site.wait("over")
        with pytest.raises(Trouble, match="plain text from now on"):
            site.look(*jobs)
        assert [each.end.exit_code for each in site.look(*jobs).values() if each.end] == [0, 0]


def test_a_server_of_pbs_without_records(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", history=False) as cluster:
        cluster.install(pbs.COMMANDS)
        site = Site(cluster, Pbs({}, {}), tmp_path)
        job = site.submit("true")
        site.wait("over")
        assert site.look(job) == {}
