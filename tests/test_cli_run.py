"""Whole runs from the shell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import textwrap
from pathlib import Path

import anyio.to_thread
from support.command import log_directory, orch, running, until

from orch.bus import events as ev

FIB = """
    import orch

    @orch.job(isolation="pool")
    def add(x: int, y: int) -> int:
        return x + y

    @orch.job(isolation="pool")
    def fib(n: int):
        if n < 2:
            return n
        return add(fib(n - 1), fib(n - 2))

    @orch.workflow
    def main(n: int = 5, shout: bool = False):
        '''Fibonacci numbers, the slow way.'''
        return {"n": n, "value": fib(n)}
"""

FAILS = """
    import sys
    from pathlib import Path

    import orch

    @orch.job
    def bad(where: str):
        print("about to fail", file=sys.stderr)
        if not Path(where).exists():
            raise ValueError("no such header")
        return "mended"

    @orch.job
    def after(value):
        return value

    @orch.job
    def beside():
        return "fine"

    @orch.workflow
    def main(where: str):
        return [after(bad(where)), beside()]
"""

FILES = """
    from dataclasses import dataclass

    import orch

    @dataclass
    class Made:
        label: str
        file: orch.FileRef

    @orch.job
    def write(text: str):
        path = orch.context().scratch / "out.txt"
        path.write_text(text)
        return Made(text, orch.context().write_file(path))

    @orch.workflow
    def main():
        return [write("one"), write("two")]
"""

SLOW = """
    import time

    import orch

    @orch.job
    def nap(number: int, seconds: float):
        time.sleep(seconds)
        return number

    @orch.workflow
    def main(count: int = 2, seconds: float = 60.0):
        return [nap(number, seconds) for number in range(count)]
"""

WAITS = """
    import sys
    from pathlib import Path

    import orch

    @orch.job
    def waits(where: str):
        print("so far")
        print("complaint", file=sys.stderr)
        Path(where, "said").write_text(".")
        Path(where, "held").read_text()
        print("more")
        return 1

    @orch.workflow
    def main(where: str):
        return waits(where)
"""


def flow(place: Path, text: str, name: str = "wf.py") -> Path:
    """A workflow's file."""
    path = place / name
    path.write_text(textwrap.dedent(text))
    return path


def test_the_result_is_all_that_is_on_stdout(tmp_path: Path) -> None:
    flow(tmp_path, FIB)
    done = orch("run", "--run-id", "r", "--name", "first", "--tag", "a=1", "wf.py", "--n", "6", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"n": 6, "value": 8}
    assert done.stdout.count("\n") == 1
    assert "orch: run r succeeded: " in done.stderr
    assert "look at it: orch replay" in done.stderr
    assert "\x1b" not in done.stderr
    status = json.loads(orch("status", "--json", cwd=tmp_path).stdout)
    assert (status["run"], status["name"], status["tags"], status["state"]) == ("r", "first", {"a": "1"}, "succeeded")
    assert status["leader"]["alive"] is False
    again = orch("replay", "--restart", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    halfway = json.loads(orch("replay", "--at", str(status["seq"] // 2), "--json", cwd=tmp_path).stdout)
    assert halfway["state"] == "running"
    assert halfway["counts"]["done"] < status["counts"]["done"]
    followed = orch("tail", "--follow", "--json", cwd=tmp_path)
    assert len(followed.stdout.splitlines()) == status["seq"]


def test_quiet_is_quiet(tmp_path: Path) -> None:
    flow(tmp_path, FIB)
    done = orch("run", "--quiet", "wf.py", "--n=3", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"n": 3, "value": 2}\n', "")


def test_a_module_by_name(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    flow(package, FIB, "main.py")
    done = orch("run", "--quiet", "-m", "pkg.main", "--n", "2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, '{"n": 2, "value": 1}\n'), done.stderr


def test_the_log_can_be_had_as_json_lines(tmp_path: Path) -> None:
    flow(tmp_path, FIB)
    done = orch("run", "--quiet", "--log-level", "info", "--log-file", "log", "wf.py", "--n", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"planned", "succeeded"} <= {line["event"] for line in lines}


def test_help_of_a_workflow(tmp_path: Path) -> None:
    flow(tmp_path, FIB)
    done = orch("run", "wf.py", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: orch run")
    assert "Fibonacci numbers, the slow way." in done.stdout
    assert re.search(r"--n int +default: 5", done.stdout)
    assert re.search(r"--shout / --no-shout +default: False", done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["wf.py"]


def test_a_failing_job_is_reported_and_mended(tmp_path: Path) -> None:
    flow(tmp_path, FAILS)
    done = orch("run", "--run-id", "r", "wf.py", "--where", tmp_path / "mended", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    for text in (
        "run r failed: 1 of 3 jobs done, 1 failed, 1 skipped",
        "bad",
        "attempt 1: FAILED: ValueError: no such header",
        "about to fail",
        "orch logs r ",
        "orch replay r --restart",
    ):
        assert done.stderr.count(text) >= 1
    assert done.stderr.count("run r failed") == 1
    assert "look at it" not in done.stderr
    why = orch("why", "bad", cwd=tmp_path)
    assert "about to fail" in why.stdout
    (tmp_path / "mended").touch()
    again = orch("replay", "r", "--restart", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, '["mended", "fine"]\n'), again.stderr
    beside = json.loads(orch("status", "--json", cwd=tmp_path).stdout)["jobs"].values()
    assert [job["attempt"] for job in beside if job["kind"] == "beside"] == [1]


def test_files_of_the_result(tmp_path: Path) -> None:
    flow(tmp_path, FILES)
    done = orch("run", "--quiet", "wf.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["label"], second["label"]) == ("one", "two")
    assert Path(first["file"]).read_text() == "one"
    assert Path(first["file"]).is_relative_to(tmp_path / ".orch")
    done = orch("run", "--quiet", "--out", "here/it/is", "wf.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [made["file"] for made in json.loads(done.stdout)] == [
        str(tmp_path / "here" / "it" / "is" / name) for name in ("out.txt", "out-2.txt")
    ]
    assert (tmp_path / "here" / "it" / "is" / "out-2.txt").read_text() == "two"


# Signals and wishes ------------------------------------------------------------------------------------------------


def is_running(event: ev.Event) -> bool:
    return isinstance(event, ev.Running)


async def test_ctrl_c_and_carrying_on(tmp_path: Path) -> None:
    path = flow(tmp_path, SLOW)
    with running("run", "--run-id", "r", "wf.py", cwd=tmp_path) as process:
        await until(log_directory(tmp_path / ".orch", "r"), is_running)
        process.send_signal(signal.SIGINT)
        out, err = await anyio.to_thread.run_sync(process.communicate)
    assert (process.returncode, out) == (130, ""), err
    assert "orch replay r --restart" in err
    path.write_text(path.read_text().replace("time.sleep(seconds)", "pass"))
    done = orch("replay", "r", "--restart", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[0, 1]\n"), done.stderr
    types = [json.loads(line)["type"] for line in orch("tail", "--json", cwd=tmp_path).stdout.splitlines()]
    assert "recoded" in types


async def test_logs_of_a_running_job_show_what_there_is_so_far(tmp_path: Path) -> None:
    flow(tmp_path, WAITS)
    os.mkfifo(tmp_path / "said")
    os.mkfifo(tmp_path / "held")
    with running("run", "--run-id", "r", "wf.py", "--where", str(tmp_path), cwd=tmp_path) as process:
        await until(log_directory(tmp_path / ".orch", "r"), is_running)
        await anyio.to_thread.run_sync((tmp_path / "said").read_bytes)
        shown = orch("logs", "waits", cwd=tmp_path)
        assert (shown.returncode, shown.stdout) == (0, "so far\n"), shown.stderr
        assert "attempt 1 (running): stdout so far, 7 B" in shown.stderr
        assert "complaint" in shown.stderr
        (tmp_path / "held").write_bytes(b"go")
        out, err = await anyio.to_thread.run_sync(process.communicate)
    assert (process.returncode, out) == (0, "1\n"), err
    assert orch("logs", "waits", cwd=tmp_path).stdout == "so far\nmore\n"


async def test_sigterm_leaves_what_runs(tmp_path: Path) -> None:
    flow(tmp_path, SLOW)
    with running("run", "--run-id", "r", "wf.py", "--seconds", "3", cwd=tmp_path) as process:
        await until(log_directory(tmp_path / ".orch", "r"), is_running)
        process.send_signal(signal.SIGTERM)
        _, err = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 143, err
    assert "may still run" in err
    status = json.loads(orch("status", "--json", cwd=tmp_path).stdout)
    assert status["state"] == "interrupted"
    done = orch("replay", "--restart", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[0, 1]\n"), done.stderr
    jobs = json.loads(orch("status", "--json", cwd=tmp_path).stdout)["jobs"].values()
    assert [job["attempt"] for job in jobs] == [1, 1]


async def test_a_second_leader_is_refused_and_a_run_can_be_paused_resumed_and_cancelled(tmp_path: Path) -> None:
    flow(tmp_path, SLOW)
    store = tmp_path / ".orch"
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running("run", "--run-id", "r", "wf.py", cwd=tmp_path))
        await until(log_directory(store, "r"), is_running)
        tail = stack.enter_context(running("tail", "--follow", "r", "--store", store, cwd=tmp_path))
        second = orch("replay", "r", "--restart", cwd=tmp_path)
        assert second.returncode == 3
        assert f"process {process.pid}" in second.stderr
        assert orch("clean", "r", "--yes", cwd=tmp_path).returncode == 3
        assert orch("pause", cwd=tmp_path).returncode == 0
        assert json.loads(orch("list", "--json", cwd=tmp_path).stdout)[0]["state"] == "paused"
        assert orch("resume", cwd=tmp_path).returncode == 0
        assert json.loads(orch("list", "--json", cwd=tmp_path).stdout)[0]["state"] == "running"
        cancelled = orch("cancel", cwd=tmp_path)
        assert cancelled.returncode == 0
        assert "run r is cancelled" in cancelled.stderr
        _, err = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 5, err
        shown, _ = await anyio.to_thread.run_sync(tail.communicate)
        assert tail.returncode == 0
        assert shown.splitlines()[-1].split()[2] == "closed"
    assert orch("clean", "r", "--yes", cwd=tmp_path).returncode == 0
    assert orch("list", "--json", cwd=tmp_path).stdout == "[]\n"


async def test_a_run_without_a_leader_is_cancelled_before_it_is_deleted(tmp_path: Path) -> None:
    flow(tmp_path, SLOW)
    with running("run", "--run-id", "r", "wf.py", cwd=tmp_path) as process:
        await until(log_directory(tmp_path / ".orch", "r"), is_running)
        process.kill()
        process.wait()
    done = orch("clean", "r", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".orch" / "runs" / "r").exists()
