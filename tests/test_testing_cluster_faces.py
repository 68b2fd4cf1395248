"""Faces: programs that behave as a batch system's commands do, on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orch.testing.cluster.control import Cluster

FACE = """
import sys
from orch.testing.cluster.client import Rejected, Unreachable

def hand_over(cluster, words):
    try:
        job = cluster.submit(words[1:], name=words[0], variables={"JOB": "{job}.{index}"}, tasks=[1, 2], out=words[0])
    except Rejected as error:
        sys.stderr.write(f"no: {error}\\n")
        return 2
    print(f"job {job}")

def look(cluster, words):
    print(len(cluster.jobs()))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "clüster '$x'", slots=2) as found:
        yield found


def call(cluster: Cluster, name: str, *words: object) -> subprocess.CompletedProcess[str]:
    argv = [os.path.join(cluster.bin, name), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60)


def told(cluster: Cluster, name: str, *words: object) -> Any:
    done = call(cluster, name, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


def test_the_commands_of_the_fake(cluster: Cluster, tmp_path: Path) -> None:
    program = script(tmp_path / "s", 'echo "$FAKE_JOB $FAKE_INDEX"; exit 3')
    log = tmp_path / "log.{index}"
    job = told(cluster, "fake-submit", "--name", "ü x", "--tasks", 2, "--log", log, "--keep", "a=b=c", program)["job"]
    rows = cluster.wait(lambda rows: len(rows) == 2 and all(row.state == "over" for row in rows))
    assert rows[0].extra == {"a": "b=c"}
    assert (tmp_path / "log.2").read_text() == f"{job}.2 2\n"
    assert told(cluster, "fake-queue") == []
    found = [(row["task"], row["reason"], row["code"]) for row in told(cluster, "fake-history", "--jobs", job)]
    assert found == [(f"{job}.1", "exit", 3), (f"{job}.2", "exit", 3)]
    assert {row["task"] for row in told(cluster, "fake-queue", "--names", "ü x,other")} == {f"{job}.1", f"{job}.2"}
    assert [node["cores"] for node in told(cluster, "fake-nodes")] == [2]


def test_one_that_is_no_array(cluster: Cluster, tmp_path: Path) -> None:
    program = script(tmp_path / "s", 'echo "$FAKE_JOB ${FAKE_INDEX-none}"; sleep 1000')
    job = told(cluster, "fake-submit", "--log", tmp_path / "log", program)["job"]
    cluster.wait(lambda _: (tmp_path / "log").exists() and (tmp_path / "log").read_text() == f"{job} none\n")
    assert call(cluster, "fake-cancel", job).returncode == 0
    done = call(cluster, "fake-cancel", job + 1, f"{job}.7")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"fake: there is no task {job + 1}")


def test_what_goes_wrong_has_words_and_exit_codes(cluster: Cluster, tmp_path: Path) -> None:
    program = script(tmp_path / "s", "true")
    cluster.set(refuse_next="no queue")
    done = call(cluster, "fake-submit", program)
    assert (done.returncode, done.stderr) == (65, "fake: not accepted: no queue\n")
    assert call(cluster, "fake-submit").returncode == 64
    cluster.set(nonsense="<html>")
    done = call(cluster, "fake-queue")
    assert (done.returncode, done.stdout) == (0, "<html>\n")
    cluster.set(nonsense="", down=True)
    assert [call(cluster, f"fake-{name}", 1).returncode for name in ("queue", "cancel", "nodes")] == [75, 75, 75]


def test_a_face_of_ones_own(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "face_of_my_own.py").write_text(FACE)
    commands = {name: f"face_of_my_own:{name}" for name in ("hand_over", "look")}
    assert cluster.install(commands, path=str(tmp_path)) == cluster.bin
    out = tmp_path / "{index} out"
    assert call(cluster, "hand_over", out, "sh", "-c", "echo $JOB").stdout == "job 1\n"
    cluster.wait(lambda rows: len(rows) == 2 and all(row.state == "over" for row in rows))
    assert (tmp_path / "2 out").read_text() == "1.2\n"
    done = call(cluster, "look")
    assert (done.stdout, done.stderr) == ("0\n", "")
    cluster.set(refuse_next="never")
    assert call(cluster, "hand_over", "x", "true").returncode == 2
    cluster.set(down=True)
    done = call(cluster, "look")  # it has no words of its own for that
    assert (done.returncode, done.stderr) == (1, "cannot reach the server: down\n")


def test_a_cluster_by_hand_has_the_commands_of_the_fake(cluster: Cluster) -> None:
    assert sorted(os.listdir(cluster.bin)) == [
        f"fake-{name}" for name in ("cancel", "history", "nodes", "queue", "submit")
    ]
