"""What a run from the shell costs before anything runs: what is imported where, and what is started beforehand."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from socket import SO_PEERCRED, SOL_SOCKET

import pytest
from support.agents import Lab
from support.command import tagged

from orch.agent import forerunner, paths
from orch.agent.ahead import Ahead, start_ahead
from orch.agent.processes import tag
from orch.agent.tags import NAME, placeholder
from orch.cli import early
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore

FLOW = "import orch\n\n@orch.job\ndef f() -> int:\n    return 7\n\n@orch.workflow\ndef main():\n    return f()\n"

# Imports -----------------------------------------------------------------------------------------------------------

NEVER = {
    *("aiosqlite", "cloudpickle", "email", "http", "importlib.metadata", "multiprocessing", "numpy", "pydantic"),
    *("rich", "sqlite3", "structlog", "tomllib", "unittest", "urllib.request", "xml"),
}
"""What no process needs that runs a workflow of one job."""

PLAIN = {"anyio", "asyncio", "concurrent", "json", "logging", "ssl", "subprocess", "typer"}
"""What only the leader and the command need."""

USERS = {"orch.work.execute", "orch.work.loader", "orch.authoring.workflows"}
"""What imports, or is, a user's code."""


def imported(code: str, *arguments: str, cwd: Path | None = None) -> set[str]:
    """The modules that a fresh interpreter has after `code`."""
    code = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("from orch.cli.main import main; main(['--help'])", NEVER | PLAIN | USERS | {"msgspec"}),
        ("import orch.cli.early", NEVER | PLAIN | USERS | {"msgspec", "socket"}),
        ("import orch.agent.__main__", NEVER | PLAIN | USERS | {"msgspec", "typing_extensions"}),
        ("import orch.agent.__main__, orch.agent.assemble, orch.agent.ahead", NEVER | PLAIN),
        (
            "import orch.work.template, orch.work.execute, orch.work.loader",
            NEVER | PLAIN | {"orch.leader", "orch.state"},
        ),
        ("import orch.work.planner", NEVER | PLAIN | {"orch.leader", "orch.state", "orch.agent"}),
    ],
    ids=["help", "early", "guardian", "agent", "template", "planner"],
)
def test_little_is_imported(code: str, never: set[str]) -> None:
    assert imported(code) & never == set()


def test_the_leader_imports_little(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text(FLOW)
    found = imported("from orch.cli.main import main\nassert main(['run', '--quiet', 'wf.py']) == 0", cwd=tmp_path)
    assert found & (NEVER | {"orch.work.planner", "orch.work.template", "orch.agent.core", "orch.calls.cache"}) == set()


# Guesses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("run wf.py", True),
        ("run --adapter local wf.py", True),
        ("run --adapter=null wf.py", False),
        ("run --adapter slurm wf.py", False),
        ("run wf.py --help", False),
    ],
)
def test_an_agent_is_started_early_for_runs_on_this_host(arguments: str, *, wanted: bool) -> None:
    assert early.wants_agent(arguments.split()) is wanted


def test_the_probable_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCH_STORE", raising=False)
    assert early.probable_store(["run", "wf.py"]) == str(tmp_path / ".orch")
    monkeypatch.setenv("ORCH_STORE", "e")
    assert early.probable_store(["run", "wf.py"]) == str(tmp_path / "e")
    for given in (["--store", "s"], ["--store=s"], ["--store", f"file:{tmp_path}/s"]):
        assert early.probable_store(["run", *given, "wf.py"]) == str(FileStore(tmp_path / "s").root)
    assert early.probable_store(["run", "--store"]) == str(tmp_path / "e")


def test_whether_there_is_an_agent(tmp_path: Path) -> None:
    store, runtime = str(tmp_path / "s"), tmp_path / "r"
    assert not early.has_agent(store)
    paths.write_pointer(store, str(runtime))
    assert not early.has_agent(store)
    runtime.mkdir()
    (runtime / paths.SOCKET).touch()
    assert early.has_agent(store)
    paths.write_pointer(store, str(tmp_path / "elsewhere"))
    assert not early.has_agent(store)


# Forerunners -------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store, whose agent leaves at once when nobody needs it."""
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0")
    made = FileStore(tmp_path / "s")
    made.create()
    return str(made.root)


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    yield
    forerunner.drop_early()


def order(early_one: forerunner.Forerunner, store: str, tmp_path: Path) -> bytes:
    """Have it be the agent of a store; what it says."""
    runtime = paths.runtime_directory(store, str(tmp_path / "work"), {})
    return early_one.start(runtime, os.path.join(paths.agent_directory(store), forerunner.LOG))


def test_one_that_was_started_early_becomes_the_agent(store: str, tmp_path: Path) -> None:
    forerunner.start_early(store)
    taken = forerunner.take(store)
    other = forerunner.take(store)
    assert other is not taken
    other.drop()
    assert order(taken, store, tmp_path) == forerunner.READY


def test_one_for_another_store_leaves(store: str, tmp_path: Path) -> None:
    forerunner.start_early(str(tmp_path / "other"))
    taken = forerunner.take(store)
    assert taken.store == store
    assert order(taken, store, tmp_path) == forerunner.READY


def test_what_is_wrong_is_said(store: str, tmp_path: Path) -> None:
    taken = forerunner.take(store)
    assert b"No such file" in taken.start(str(tmp_path / "nowhere"), os.path.join(store, "log"))
    assert b"No such file" in forerunner.take(store).start(str(tmp_path), str(tmp_path / "no" / "log"))


def test_it_holds_nothing_that_its_starter_was_given(store: str) -> None:
    """What that has inherited, a lock perhaps, must not live as long as an agent. This one waits for its orders."""
    held, release = os.pipe()
    os.set_inheritable(release, True)
    forerunner.start_early(store)
    os.close(release)
    assert select.select([held], [], [], 60)[0], "it holds the pipe's other end"
    os.close(held)


def test_the_guardian_writes_to_the_agents_log(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_AGENT_LINGER", "3600")
    assert order(forerunner.take(store), store, tmp_path) == forerunner.READY
    socket = paths.connect(paths.read_pointer(store))
    assert socket is not None
    agent = struct.unpack("3i", socket.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))[0]
    guardian = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
    log = os.path.join(paths.agent_directory(store), forerunner.LOG)
    end = os.pidfd_open(guardian)
    try:
        for pid in (agent, guardian):
            assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)] == [os.devnull, log, log]
    finally:
        socket.close()
        os.kill(agent, signal.SIGTERM)
        assert select.select([end], [], [], 60)[0]
        os.close(end)


# Templates ahead of time -------------------------------------------------------------------------------------------


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Ahead]:
    """One that was started in a directory."""
    started = start_ahead(str(tmp_path))
    yield started
    started.end.close()
    os.waitpid(started.pid, 0)


def test_it_serves_what_is_alike(ahead: Ahead, tmp_path: Path) -> None:
    same = {**ahead.environment, NAME: "another mark"}
    assert ahead.fits(same, str(tmp_path))
    assert not ahead.fits(same, "/")
    assert not ahead.fits({**same, "MORE": "1"}, str(tmp_path))
    assert not ahead.fits({name: value for name, value in same.items() if name != "PATH"}, str(tmp_path))


def test_it_bears_no_agents_mark(ahead: Ahead) -> None:
    assert tag(ahead.pid) == placeholder("")


def test_it_leaves_when_nobody_wants_it(tmp_path: Path) -> None:
    started = start_ahead(str(tmp_path))
    started.end.close()
    assert os.waitpid(started.pid, 0)[1] == 0


@pytest.fixture
async def early_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Lab, int]]:
    """A lab whose agent was started early, and the process that this has started for its first template."""
    lab = Lab(tmp_path)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # it changes from now on, and no environment would be the same
    monkeypatch.setenv("ORCH_TEST_MARK", str(tmp_path))
    forerunner.start_early(str(lab.store.root))
    yield lab, started_ahead(f"ORCH_TEST_MARK={tmp_path}")
    await lab.close()


def own() -> dict[str, str]:
    """The environment that the agent was started in."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def started_ahead(mark: str) -> int:
    """The process that is to be a template, among those whose environment has `mark`."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for pid in tagged(mark):
            if b"orch.work.template" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise AssertionError("there is none")


async def test_the_first_template_is_that_process(early_lab: tuple[Lab, int]) -> None:
    lab, pid = early_lab
    view = await lab.open(environment=own())
    attempt = view.python(os.getppid, cwd=os.getcwd())
    assert view.value(await view.run_one(attempt)) == pid
    assert tag(pid) == placeholder(lab.name)
    loud = await view.run_one(view.python(print, "heard", cwd=os.getcwd()))
    assert blob_bytes(lab.store, loud.stdout) == b"heard\n"


async def test_another_environment_gets_a_template_of_its_own(early_lab: tuple[Lab, int]) -> None:
    lab, pid = early_lab
    view = await lab.open(environment={**own(), "MORE": "1"})
    assert view.value(await view.run_one(view.python(os.getppid, cwd=os.getcwd()))) not in (pid, 0)


async def test_it_is_no_stranger_that_an_attempt_has_left(early_lab: tuple[Lab, int]) -> None:
    lab, pid = early_lab
    end = os.pidfd_open(pid)
    view = await lab.open()
    await view.run_one(view.shell("true"))
    await view.run_one(view.shell("(setsid sleep 3600 &)"))
    assert not select.select([end], [], [], 0)[0], "it was ended"
    os.close(end)


async def test_one_that_dies_is_not_missed(early_lab: tuple[Lab, int]) -> None:
    lab, pid = early_lab
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([end], [], [], 60)[0]
    os.close(end)
    view = await lab.open(environment=own())
    assert view.value(await view.run_one(view.python(os.getppid, cwd=os.getcwd()))) not in (pid, 0)
