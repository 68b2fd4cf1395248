"""`orch run --in-process`: the whole model, failures, signals, and who carries on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.command import log_directory, orch, running, status, until

from orch.bus.events import Running

PLAIN = """
import asyncio, os, sys
import orch

@orch.job(retries=1)
def add(a, b):
    print("adding", a, b)
    if a == 3 and orch.context().attempt == 1:
        raise ValueError("the first time")
    return a + b

@orch.job
async def write(x):
    await asyncio.sleep(0.001)
    path = orch.context().scratch / "x.txt"
    path.write_text(str(x))
    return orch.context().write_file(path)

@orch.job
def read(ref):
    return add(int(orch.context().read_file(ref).read_text()), 100)

@orch.job
def where():
    return os.getpid()

@orch.workflow
async def main(n: int = 3):
    await asyncio.sleep(0.001)
    echo = orch.command(["cat"], stdin="hello")
    parts = [add(i, i) for i in range(n)]
    return {"sum": parts, "file": read(write(n)), "echo": echo["stdout"], "pids": [where(), os.getpid()]}
"""


def run(place: Path, text: str, *args: str, **env: Any) -> subprocess.CompletedProcess[str]:
    """`orch run --in-process` of a workflow."""
    (place / "wf.py").write_text(text)
    return orch("run", "--in-process", "--run-id", "r", *args, "wf.py", cwd=place, **env)


def test_the_whole_model_works_there(tmp_path: Path) -> None:
    done = run(tmp_path, PLAIN, "--set-env", "ORCH_TEST_X=1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["sum"], result["file"], result["echo"]) == ([0, 2, 4], 103, "hello")
    assert len(set(result["pids"])) == 1
    assert "adding 1 1" in done.stdout.splitlines()
    jobs = status(tmp_path / ".orch", "r")["jobs"].values()
    assert {job["state"] for job in jobs} == {"done"}
    retried = next(job for job in jobs if job["name"] == "add(3, 100)")
    assert retried["attempt"] == 2
    assert orch("logs", "r", retried["id"], "--attempt", "2", cwd=tmp_path).stdout == "adding 3 100\n"
    assert "ValueError: the first time" in orch("logs", "r", retried["id"], "--attempt", "1", cwd=tmp_path).stderr


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert run(tmp_path, PLAIN, "--work-dir", "work").returncode == 0
    assert list((tmp_path / "work").iterdir()) == []
    assert not list((tmp_path / ".orch" / "agents").glob("*/inprocess"))


MODEL = """
import os
import orch

class Database(orch.Service):
    def __init__(self):
        super().__init__(check_interval="60s")
    async def start(self):
        return {"pid": os.getpid()}
    def stop(self):
        open(os.environ["MARKS"] + "/stopped", "x").close()

class Sort(orch.Job):
    def __init__(self, data):
        super().__init__(memory="1 GiB")
        self.data = data
    def run(self):
        return sorted(self.data)

@orch.job
def use(credentials, number):
    return credentials["pid"] == os.getpid(), number

@orch.job
def parent():
    here = orch.context()
    here.defer(open, os.environ["MARKS"] + "/deferred", "x")
    here.add_follow_on(after())
    credentials = here.add_service(Database())
    return [use(credentials, number) for number in range(2)]

@orch.job
def after():
    open(os.environ["MARKS"] + "/after", "x").close()

@orch.job(checkpoint=True, retries=1)
def begin_again():
    return fails_once()

@orch.job
def fails_once():
    if not os.path.exists(os.environ["MARKS"] + "/once"):
        open(os.environ["MARKS"] + "/once", "x").close()
        raise ValueError("once")
    return "the second time"

@orch.job
def size():
    return {"size": 1 << 20}

@orch.job
def asked():
    return orch.context().resources.memory

@orch.workflow
def main():
    return [parent(), Sort([3, 1, 2]), begin_again(), asked.options(memory=size()["size"])()]
"""


def test_services_checkpoints_and_the_rest(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    done = run(tmp_path, MODEL, MARKS=str(tmp_path / "marks"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[[True, 0], [True, 1]], [1, 2, 3], "the second time", 1 << 20]
    assert sorted(os.listdir(tmp_path / "marks")) == ["after", "deferred", "once", "stopped"]


FAILING = """
import os, sys
import orch

@orch.job
def fail(how):
    if how == "exit":
        sys.exit("no more")
    raise RuntimeError(how)

@orch.workflow
def main():
    return [fail("exit"), fail("oops"), orch.command(["false"]), orch.command(["no-such-program"])]
"""


def test_failures_are_told_as_elsewhere(tmp_path: Path) -> None:
    done = run(tmp_path, FAILING)
    assert done.returncode == 1, done.stderr
    why = [job["why"] for job in status(tmp_path / ".orch", "r")["jobs"].values() if job["state"] == "failed"]
    assert sorted(why) == [
        "FAILED: RuntimeError: oops",
        "FAILED: called sys.exit: no more",
        "FAILED: exit code 1",
        f"FAILED: no-such-program: no such program in PATH ({os.environ['PATH'].count(os.pathsep) + 1} directories)",
    ]


def test_a_mistake_in_the_workflow_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "import orch\n@orch.workflow\ndef main():\n    return 1 / 0\n")
    assert done.returncode == 2
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / ".orch" / "runs" / "r").exists()


STOPPING = """
import os, signal
import orch

@orch.job
def first():
    return 1

@orch.job
def interrupted(x, marks=os.environ["MARKS"]):
    if not os.path.exists(marks):
        open(marks, "w").close()
        os.kill(os.getpid(), getattr(signal, os.environ["NUMBER"]))
        while True:
            pass
    return x + 1

@orch.workflow
def main():
    return interrupted(first())
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_run_which_can_be_carried_on(tmp_path: Path, number: str, code: int) -> None:
    """Also of a job that never gives the loop a chance; the leader's own ways to end are the same as elsewhere."""
    env: dict[str, Any] = {"NUMBER": number, "MARKS": str(tmp_path / "mark")}
    done = run(tmp_path, STOPPING, **env)
    assert done.returncode == code, done.stderr
    assert "orch replay r --restart" in done.stderr
    again = orch("replay", "r", "--restart", cwd=tmp_path, **env)
    assert again.returncode == 0, again.stderr
    assert again.stdout == "2\n"


async def test_a_leader_that_was_killed_is_succeeded(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(STOPPING)
    env: dict[str, Any] = {"NUMBER": "SIGSTOP", "MARKS": str(tmp_path / "mark")}
    with running("run", "--in-process", "--run-id", "r", "wf.py", cwd=tmp_path, **env) as leader:
        await until(log_directory(tmp_path / ".orch", "r"), lambda event: isinstance(event, Running) and event.job == 2)
        while not (tmp_path / "mark").exists():
            await asyncio.sleep(0.005)
        leader.kill()
    again = orch("replay", "r", "--restart", cwd=tmp_path, **env)
    assert (again.returncode, again.stdout) == (0, "2\n"), again.stderr
