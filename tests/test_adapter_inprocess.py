"""Everything in one process: the adapter, and `orch run --in-process`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.agents import Lab, View
from support.command import ORCH, log_directory, orch, running, status, until

from orch import api
from orch.adapters.contract import Finished, Queued, Started, Unknown, Update, fits
from orch.adapters.inprocess import InProcessAdapter
from orch.adapters.registry import make_adapter
from orch.attempt import Note, Reason
from orch.bundle import Source
from orch.bus.events import Resources, Running
from orch.work.context import context
from orch.work.foreground import Interrupted, interruptible, no_loop
from orch.work.services import serve

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


# The command -----------------------------------------------------------------------------------------------------


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


BREAKPOINT = """
import orch

@orch.job
def look(x):
    y = x + 1
    breakpoint()
    return y

@orch.workflow
def main():
    return look(41)
"""


def test_breakpoints_are_for_whoever_sits_at_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    ours, theirs = pty.openpty()
    arguments = [*ORCH, "run", "--in-process", "wf.py"]
    env = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(arguments, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = _until(ours, b"(Pdb) ")
        assert f"{tmp_path}/wf.py(8)look()".encode() in seen  # the file itself, and no copy of it
        os.write(ours, b"y = 4711\nc\n")
        seen = _until(ours, b"succeeded")
        assert process.wait(60) == 0
        seen += _until(ours, b"no more of it comes")
    os.close(ours)
    assert b"4711" in seen.splitlines()


@pytest.mark.parametrize("options", [(), ("--in-process",)])
def test_a_breakpoint_where_nobody_can_type_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    done = subprocess.run(
        [*ORCH, "run", *options, "wf.py"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED: breakpoint() has no terminal here: use orch run --in-process, or orch debug" in done.stderr
    assert f'{tmp_path}/wf.py", line 8, in look' in done.stderr


def test_nor_can_anybody_type_in_the_workflow_function(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT.replace("return look(41)", "breakpoint()\n    return look(41)"))
    done = orch("run", "wf.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "workflow main: breakpoint() has no terminal here: use orch run --in-process" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_debugger_that_is_left_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(BREAKPOINT)
    done = subprocess.run(
        [*ORCH, "run", "--in-process", "wf.py"],
        cwd=tmp_path,
        input="q\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED: the debugger was left" in done.stderr
    assert "Traceback" not in done.stderr


def _until(descriptor: int, wanted: bytes) -> bytes:
    """What a terminal shows up to `wanted`, or to its end."""
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], 60)[0], seen
        try:
            seen += os.read(descriptor, 65536)
        except OSError:  # EIO: the other side is closed
            break
    return seen.replace(b"\r\n", b"\n")


# The API ---------------------------------------------------------------------------------------------------------


async def test_a_running_loop_is_not_disturbed(tmp_path: Path) -> None:
    from flows import small

    here = asyncio.current_task()
    async with api.Orchestrator(tmp_path / "s", InProcessAdapter()) as orchestrator:
        handle = await orchestrator.start(small.main)
        result = await handle.result()
    assert asyncio.current_task() is here
    assert result is not None


def test_in_a_thread_without_signals(tmp_path: Path) -> None:
    from flows import small

    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(api.run(small.main, store=tmp_path / "s", settings={"adapter": "inprocess"}))
    )
    thread.start()
    thread.join(60)
    assert len(found) == 1


SCRIPT = """
import asyncio, dataclasses, sys
import orch

@dataclasses.dataclass
class Point:
    x: int

@orch.job
def move(point):
    assert isinstance(point, Point)
    return Point(point.x + 1)

@orch.workflow
def main(x: int):
    return move(move(Point(x)))

async def loop(**settings):
    return orch.run(main, 6, settings=settings)

if __name__ == "__main__":
    print(orch.run(main, 5, settings={"adapter": "inprocess"}))
    print(orch.run(main, 5, settings={"adapter": "inprocess", "deploy": True}))
    print(asyncio.run(loop(adapter="inprocess")))
    print(orch.run(main, 5))
"""


def test_several_runs_of_one_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Point(x=7)", "Point(x=7)", "Point(x=8)", "Point(x=7)"]


async def test_runs_at_once_of_files_with_the_same_name(tmp_path: Path) -> None:
    text = "import orch\n@orch.job\ndef NAME(x):\n    return 'NAME', x\n"
    text += "@orch.workflow\ndef main():\n    return [NAME(x) for x in range(3)]\n"
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "wf.py").write_text(text.replace("NAME", name))
    async with api.Orchestrator(tmp_path / "s", "inprocess") as orchestrator:
        sources = [Source.file(str(tmp_path / name / "wf.py"), deploy=False) for name in "ab"]
        runs = [await orchestrator.start(source, run_id=f"r{number}") for number, source in enumerate(sources)]
        results = [await run.result() for run in runs]
    assert results == [[(name, x) for x in range(3)] for name in "ab"]


async def test_jobs_may_run_loops_of_their_own() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with no_loop():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        assert asyncio.run(asyncio.sleep(0, "value")) == "value"
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
    assert await asyncio.sleep(0, "goes on") == "goes on"


def test_a_signal_is_told_once_more() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        with pytest.raises(Interrupted), interruptible():
            signal.raise_signal(signal.SIGTERM)
        with interruptible(), contextlib.suppress(SystemExit):  # user code may survive it: it is told all the same
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM] * 2


# The contract ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    lab = Lab(tmp_path)
    lab.adapter = make_adapter("inprocess")  # type: ignore[assignment]
    found = await lab.open()
    yield found
    await found.session.close()


def print_and_add(a: int, b: int) -> int:
    print("in the job")  # noqa: T201 - what jobs do
    return a + b


def stay(path: str) -> None:
    Path(path).touch()


def never() -> None:
    raise AssertionError("it was to be killed first")


def defer_and_fail(path: str) -> None:
    context().defer(stay, path)
    raise RuntimeError


class Echo:
    """A service that gives its process and thread away."""

    def __init__(self, path: str) -> None:
        self.path = path

    def start(self) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    def check(self) -> bool:
        return True

    def stop(self) -> None:
        Path(self.path).touch()


def is_up(update: Update) -> bool:
    return isinstance(update, Note) and update.kind == "up"


async def test_an_attempt(view: View, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = view.python(print_and_add, 1, 2)
    outcome = await view.run_one(attempt)
    assert view.value(outcome) == 3
    assert (outcome.stdout.data, outcome.stderr.size) == (b"in the job\n", 0)
    assert capsys.readouterr().out == "in the job\n"
    assert outcome.usage.wall > 0
    assert (await view.started(attempt)).pid == os.getpid()


async def test_much_output_is_bounded(view: View) -> None:
    outcome = await view.run_one(view.python(print, "x" * 100_000, max_log=1000))
    assert outcome.stdout.cut == 100_001 - 1000
    outcome = await view.run_one(view.command("head", "-c", "100000", "/dev/zero", max_log=1000))
    assert outcome.stdout.cut == 100_000 - 1000


async def test_what_waits_can_be_cancelled(view: View) -> None:
    first, second = view.python(print_and_add, 1, 2), view.python(never)
    await view.submit(first, second)
    await view.session.cancel([second.key])
    assert (await view.outcome(second)).reason is Reason.KILLED
    assert (await view.outcome(first)).reason is Reason.FINISHED
    await view.session.cancel(["unheard.1.1"])
    await view.until(lambda update: update == Unknown("unheard.1.1"))


async def test_where_attempts_stand(view: View) -> None:
    done, waiting, unwanted = view.python(print_and_add, 1, 2), view.python(print_and_add, 3, 4), view.python(never)
    await view.submit(done)
    await view.outcome(done, acknowledge=False)
    await view.submit(done, waiting, waiting, unwanted)  # again: harmless
    view.updates.clear()
    await view.session.find([done.key, waiting.key, "unheard.1.1"], ask=3)
    await view.until(lambda update: update == Unknown("unheard.1.1", 3))
    assert isinstance(await view.standing(done), Finished)
    assert isinstance(await view.standing(waiting), Queued)
    assert (await view.outcome(unwanted)).reason is Reason.KILLED
    assert view.value(await view.outcome(waiting)) == 7


async def test_the_next_waits_until_the_one_before_is_written_down(view: View, tmp_path: Path) -> None:
    written = tmp_path / "written"
    first, second = view.python(print_and_add, 1, 2), view.python(os.path.exists, str(written))
    await view.submit(first, second)
    await view.outcome(first, acknowledge=False)

    async def acknowledge() -> None:
        written.touch()
        await view.session.acknowledge([first.key])

    async with asyncio.TaskGroup() as tasks:
        later = asyncio.get_running_loop().call_later(0.05, lambda: tasks.create_task(acknowledge()))
        assert view.value(await view.outcome(second))
        later.cancel()


async def test_a_service_runs_beside(view: View, tmp_path: Path) -> None:
    service = view.python(serve, Echo(str(tmp_path / "stopped")), form="service", kwargs={"interval": 60.0})
    await view.submit(service)
    note = await view.until(is_up)
    assert isinstance(note, Note)
    process, thread = pickle.loads(note.blob.data)
    assert process == os.getpid()
    assert thread != threading.get_ident()
    assert view.value(await view.run_one(view.python(print_and_add, 1, 2))) == 3
    view.updates.clear()
    await view.session.find([service.key])
    assert isinstance(await view.standing(service), Started)
    await view.until(is_up)
    await view.session.stop_services([service.key, service.key, "unheard.1.1"])
    assert (await view.outcome(service)).reason is Reason.FINISHED
    assert (tmp_path / "stopped").exists()


async def test_services_are_stopped_by_a_cancel_and_at_the_end(view: View, tmp_path: Path) -> None:
    one, two = (
        view.python(serve, Echo(str(tmp_path / name)), form="service", kwargs={"interval": 60.0}) for name in "ab"
    )
    await view.submit(one, two)
    await view.until(lambda update: is_up(update) and update.key == two.key)
    await view.session.cancel([one.key])
    assert (await view.outcome(one)).reason is Reason.KILLED
    await view.session.close()
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


async def test_what_is_deferred_is_done_at_the_end(view: View, tmp_path: Path) -> None:
    outcome = await view.run_one(view.python(defer_and_fail, str(tmp_path / "done")))
    assert outcome.reason is Reason.FAILED
    assert (tmp_path / "done").exists(), outcome.stderr


async def test_chaos_is_a_loss(view: View) -> None:
    outcome = await view.run_one(view.python(never, doom=3.0))
    assert (outcome.reason, outcome.message) == (Reason.LOST, "killed on purpose: --chaos")


async def test_what_can_never_run_does_not_fit_here_either(view: View) -> None:
    await view.session.limit(1.0, 1 << 20, 0)
    assert "cores: wanted 2" in fits(Resources(cores=2.0), view.session.capacity())
    assert "memory" in fits(Resources(memory=1 << 30), view.session.capacity())
