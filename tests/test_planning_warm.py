"""Planners that stay: each plan is as good as one of a new process, and none outlives whom it is for."""

from __future__ import annotations

import asyncio
import os
import py_compile
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from orch.attempt import Place
from orch.authoring.pickling import loads
from orch.bundle import Source, freeze
from orch.errors import WorkflowError
from orch.planner_pool import AT_ONCE, KEPT, Planners
from orch.planning import Planner
from orch.store.file import FileStore

LONG = 60.0
"""Seconds in which anything has happened, however busy the machine is."""


class Desk:
    """A directory to write workflows in, a store for them, and planners."""

    def __init__(self, root: Path, tasks: anyio.abc.TaskGroup) -> None:
        self.root = root
        self.tasks = tasks
        self.store = FileStore(root / "store")
        self.store.create()
        self.planners = Planners(tasks)

    async def plan(self, text: str, cwd: Path | None = None, **environment: str) -> Any:
        """What the workflow of this text returns. It has imported `orch`, `os` and `sys`."""
        file = self.root / "wf.py"
        file.write_text("import orch, os, sys\nIMPORTED = os.getpid()\n" + textwrap.dedent(text))
        bundle = freeze(Source.file(file), self.store)
        directory = self.store.local_path(f"bundles/{bundle.digest}")
        place = Place(str(self.store.root), str(self.root / "scratch"), "here")
        async with self.planners.open(directory, {**os.environ, **environment}, str(cwd or self.root)) as planner:
            assert isinstance(planner, Planner)
            plan = await planner.plan(place, "run", [])
        return loads(plan.value.data, lambda number, path: (number, path))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()

    async def hold() -> None:  # a task of its own: setting up and tearing down are not always done in the same one
        async with anyio.create_task_group() as tasks:
            made.set_result(Desk(tmp_path, tasks))
            await anyio.sleep_forever()

    holding = asyncio.create_task(hold())
    yield await made
    holding.cancel()
    await asyncio.wait([holding])


def flow(*lines: str, before: str = "") -> str:
    """A workflow of these lines."""
    return "\n".join([before, "@orch.workflow", "def main():", *(f"    {line}" for line in lines), ""])


PIDS = flow("return IMPORTED, os.getpid()")


async def ended(pid: int) -> None:
    """Wait for the end of a process, which need not be a child."""
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(LONG):
            await anyio.wait_readable(held)
    finally:
        os.close(held)


async def pids_in(file: Path, count: int) -> list[int]:
    """The process ids that have been written into a file, once there are so many."""
    with anyio.fail_after(LONG):
        while not file.exists() or len(file.read_text().splitlines()) < count:
            await anyio.sleep(0.01)
    return [int(line) for line in file.read_text().splitlines()]


# Fresh ------------------------------------------------------------------------------------------------------------


async def test_it_is_imported_once_and_each_plan_is_a_process(desk: Desk) -> None:
    found = [await desk.plan(PIDS) for _ in range(3)]
    assert len({imported for imported, _ in found}) == 1
    assert len({imported for imported, _ in found} | {planned for _, planned in found}) == 4


LOOK = """
import random, signal
STATE = []
def look():
    return {
        "state": list(STATE),
        "cwd": os.getcwd(),
        "changed": os.environ.get("CHANGED"),
        "files": len(os.listdir("/proc/self/fd")),
        "handler": str(signal.getsignal(signal.SIGTERM)),
        "stdin": sys.stdin.read(),
        "group": os.getpgid(0) == os.getsid(0) == os.getpid(),
    }
"""


async def test_a_plan_finds_everything_as_the_import_left_it(desk: Desk) -> None:
    mess = (
        "found = look()",
        "STATE.append(1)",
        "os.chdir('/')",
        "os.environ['CHANGED'] = 'yes'",
        "os.open('/dev/null', os.O_RDONLY)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "return found",
    )
    first, second, third = [await desk.plan(flow(*mess, before=LOOK)) for _ in range(3)]
    assert first == second == third
    assert (first["state"], first["cwd"], first["changed"]) == ([], str(desk.root), None)
    assert (first["stdin"], first["group"]) == ("", True)


async def test_each_plan_rolls_dice_of_its_own(desk: Desk) -> None:
    text = flow("return IMPORTED, random.random(), numpy.random.random()", before="import random, numpy.random")
    found = [await desk.plan(text) for _ in range(3)]
    assert [len(set(each)) for each in zip(*found, strict=True)] == [1, 3, 3]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("import random; random.seed(4)", "random.random()"),
        ("import random; MINE = random.Random(4)", "MINE.random()"),
        ("import numpy.random; numpy.random.seed(4)", "float(numpy.random.random())"),
        ("import numpy.random; MINE = numpy.random.default_rng(4)", "float(MINE.random())"),
        (
            "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
            "len(sys._current_frames())",
        ),
        ("import subprocess; CHILD = subprocess.Popen(['true'])", "CHILD.wait()"),
        ("DATA = open(__file__)", "DATA.readline()"),
    ],
)  # fmt: skip
async def test_where_a_fork_is_not_as_good_each_plan_has_a_new_process(desk: Desk, before: str, said: str) -> None:
    text = flow(f"return IMPORTED, {said}", before=before)
    found = [await desk.plan(text) for _ in range(3)]
    assert len({imported for imported, _ in found}) == 3
    assert len({repr(value) for _, value in found}) == 1


async def test_other_code_directories_and_environments_have_planners_of_their_own(desk: Desk) -> None:
    (desk.root / "other").mkdir()
    found = [
        await desk.plan(PIDS),
        await desk.plan(PIDS + "\n# changed\n"),
        await desk.plan(PIDS, cwd=desk.root / "other"),
        await desk.plan(PIDS, VARIABLE="1"),
        await desk.plan(PIDS),
    ]
    imported = [one for one, _ in found]
    assert len(set(imported)) == 4
    assert imported[0] == imported[4]


@pytest.mark.parametrize(
    "read", ["open('data/one').read()", "len(os.listdir('data'))", "len(list(os.scandir('data')))"]
)
async def test_what_the_import_has_read_is_read_again_when_it_changes(desk: Desk, read: str) -> None:
    data = desk.root / "data"
    data.mkdir()
    (data / "one").write_text("1")
    text = flow("return IMPORTED, DATA", before=f"DATA = {read}")
    first = await desk.plan(text)
    assert await desk.plan(text) == first
    (data / "one").write_text("22")
    (data / "two").touch()
    second = await desk.plan(text)
    assert second[0] != first[0]
    assert second[1] != first[1]


def _with(directory: Path) -> str:
    """Python's path, with a directory more."""
    return os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))


@pytest.mark.parametrize("compiled", [True, False])
async def test_modules_that_are_not_stored_are_imported_again_when_they_change(desk: Desk, *, compiled: bool) -> None:
    text, path = flow("return IMPORTED, elsewhere.VALUE", before="import elsewhere"), _with(desk.root / "path")
    module = desk.root / "path" / "elsewhere.py"
    module.parent.mkdir()
    module.write_text("VALUE = 1")
    if compiled:
        py_compile.compile(str(module))
    first = await desk.plan(text, PYTHONPATH=path)
    assert await desk.plan(text, PYTHONPATH=path) == first
    module.write_text("VALUE = 22")
    second = await desk.plan(text, PYTHONPATH=path)
    assert (second[0] != first[0], second[1]) == (True, 22)


# Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "how"), [("os._exit(7)", "ended with exit code 7"), ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV")]
)
async def test_a_plan_that_breaks_its_process_breaks_no_other(desk: Desk, death: str, how: str) -> None:
    text = flow("if os.path.exists('die'):", "    print('last words')", f"    {death}", "return IMPORTED")
    first = await desk.plan(text)
    (desk.root / "die").touch()
    with pytest.raises(WorkflowError, match=f"{how}.*the last that it said:\nlast words$") as raised:
        await desk.plan(text)
    assert "imports and plans" in str(raised.value)
    (desk.root / "die").unlink()
    assert await desk.plan(text) == first


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("print('last words', flush=True); os._exit(7)", "ended with exit code 7.*last words$"),
        ("1 / 0", "wf.py cannot be imported:.*ZeroDivisionError"),
    ],
)
async def test_an_import_that_fails_is_tried_anew(desk: Desk, before: str, message: str) -> None:
    text = flow("return IMPORTED", before=f"if os.path.exists('die'): {before}")
    (desk.root / "die").touch()
    for _ in range(2):
        with pytest.raises(WorkflowError, match=f"(?s){message}"):
            await desk.plan(text)
    (desk.root / "die").unlink()
    assert await desk.plan(text) == await desk.plan(text)


async def test_one_that_was_killed_is_replaced(desk: Desk) -> None:
    imported, _ = await desk.plan(PIDS)
    os.kill(imported, signal.SIGKILL)
    await ended(imported)
    assert (await desk.plan(PIDS))[0] != imported


HANGING = flow(
    "import signal, subprocess",
    "program = subprocess.Popen(['sleep', '1000'])",
    "with open('pids', 'a') as file: print(IMPORTED, os.getpid(), program.pid, sep='\\n', file=file)",
    "while not os.path.exists('go'): signal.pause()",
    "return IMPORTED",
)


async def test_cancelling_ends_a_plan_and_what_it_started_and_nothing_else(desk: Desk) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.plan, HANGING)
        imported, first, program = await pids_in(desk.root / "pids", 3)
        async with anyio.create_task_group() as others:
            others.start_soon(desk.plan, HANGING)
            *_, second, its_program = await pids_in(desk.root / "pids", 6)
            others.cancel_scope.cancel()
        await ended(second)
        await ended(its_program)
        assert Path(f"/proc/{first}").exists()
        tasks.cancel_scope.cancel()
    await ended(first)
    await ended(program)
    (desk.root / "go").touch()
    assert await desk.plan(HANGING) == imported


async def test_cancelling_ends_an_import(desk: Desk) -> None:
    before = """
        import signal
        with open('pids', 'a') as file: print(IMPORTED, file=file)
        if not os.path.exists('go'): signal.pause()
    """
    text = flow("return IMPORTED", before=textwrap.dedent(before))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.plan, text)
        (imported,) = await pids_in(desk.root / "pids", 1)
        tasks.cancel_scope.cancel()
    await ended(imported)
    (desk.root / "go").touch()
    assert await desk.plan(text) != imported


# How many, and how long -------------------------------------------------------------------------------------------


async def test_many_at_once_share_one_and_take_turns(desk: Desk) -> None:
    text = flow(
        "open(f'here/{os.getpid()}', 'w').close()",
        "while not os.path.exists('go'): os.sched_yield()",
        "return IMPORTED",
    )
    here = desk.root / "here"
    here.mkdir()
    found: list[int] = []

    async def one() -> None:
        found.append(await desk.plan(text))

    async with anyio.create_task_group() as tasks:
        for _ in range(2 * AT_ONCE):
            tasks.start_soon(one)
        with anyio.fail_after(LONG):
            while len(os.listdir(here)) < AT_ONCE or desk.planners.waiting < AT_ONCE:
                await anyio.sleep(0.01)
        (desk.root / "go").touch()
    assert len(set(found)) == 1
    assert len(os.listdir(here)) == 2 * AT_ONCE


async def test_few_stay(desk: Desk) -> None:
    imported = [(await desk.plan(f"{PIDS}# {number}\n"))[0] for number in range(KEPT + 1)]
    await ended(imported[0])
    again = [(await desk.plan(f"{PIDS}# {number}\n"))[0] for number in range(1, KEPT + 1)]
    assert again == imported[1:]


async def test_one_that_is_not_needed_goes(desk: Desk) -> None:
    desk.planners = Planners(desk.tasks, idle=0.01)
    imported, _ = await desk.plan(PIDS)
    await ended(imported)
    assert (await desk.plan(PIDS))[0] != imported


async def test_all_go_with_whom_they_are_for(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as users:
        desk = Desk(tmp_path, tasks)
        users.start_soon(desk.plan, HANGING)
        pids = await pids_in(tmp_path / "pids", 3)
        tasks.cancel_scope.cancel()
        users.cancel_scope.cancel()
    for pid in pids:
        await ended(pid)


SERVICE = """
import anyio, sys
from pathlib import Path
from orch.adapters.null import NullAdapter
from orch.api import Orchestrator
from orch.bundle import Source

async def main():
    async with Orchestrator("store", NullAdapter()) as orchestrator, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(orchestrator.start, Source.file("wf.py"))

anyio.run(main)
"""


async def test_none_is_left_when_a_service_is_killed(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text("import orch, os\nIMPORTED = os.getpid()\n" + HANGING)
    service = await anyio.open_process([sys.executable, "-c", SERVICE], cwd=tmp_path, stdout=None, stderr=None)
    pids = await pids_in(tmp_path / "pids", 6)
    assert pids[0] == pids[3]
    service.kill()
    await service.wait()
    for pid in set(pids):
        await ended(pid)


COMMAND = """
import sys
from orch.cli.main import main
sys.argv = ["orch", "run", "--quiet", "--adapter", "null", "wf.py"]
assert main() == 0
assert "orch.planning" in sys.modules
assert "orch.planner_pool" not in sys.modules
"""


async def test_the_command_plans_once_and_keeps_none(tmp_path: Path) -> None:
    (tmp_path / "wf.py").write_text("import orch\n" + flow("return 1"))
    done = await anyio.run_process([sys.executable, "-c", COMMAND], cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
