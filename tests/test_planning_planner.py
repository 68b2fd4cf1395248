"""Plans made by real planner processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import orch
from orch.attempt import NewJob, Place, Plan
from orch.authoring.pickling import loads
from orch.bundle import Source, freeze
from orch.bus.events import Blob
from orch.errors import GraphError, WorkflowError
from orch.manyjobs import ManyJobs
from orch.planning import Planner, pack_arguments
from orch.store.file import FileStore


class Bench:
    """A directory to write workflows in, and a store for them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = root / "tree"
        self.tree.mkdir()
        self.store = FileStore(root / "store")
        self.store.create()
        self.said = b""

    def write(self, name: str, text: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    @asynccontextmanager
    async def planner(self, source: Source | str, **environment: str) -> AsyncIterator[Planner]:
        if isinstance(source, str):
            source = Source.file(self.write("wf.py", source))
        bundle = freeze(source, self.store)
        directory = self.store.local_path(f"bundles/{bundle.digest}")
        async with Planner.open(directory, {**os.environ, **environment}, str(self.tree), self._hear) as planner:
            yield planner

    def _hear(self, data: bytes) -> None:
        self.said += data

    @property
    def place(self) -> Place:
        return Place(str(self.store.root), str(self.root / "scratch"), "here")

    async def plan(self, source: Source | str, argv: list[str] | None = None, arguments: bytes = b"") -> Plan:
        async with self.planner(source) as planner:
            return await planner.plan(self.place, "run", argv, arguments)

    async def value(self, source: Source | str, argv: list[str] | None = None, arguments: bytes = b"") -> Any:
        plan = await self.plan(source, argv, arguments)
        return loads(plan.value.data, lambda number, path: (number, path))

    async def trouble(self, source: Source | str, argv: list[str] | None = None) -> str:
        with pytest.raises(WorkflowError) as raised:
            await self.plan(source, argv)
        return str(raised.value)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


FIB = """
    import orch
    from helper import OFFSET
    @orch.job
    def fib(n): return n
    @orch.workflow
    def main(n: int = 10, loud: bool = False):
        "Count."
        print("planning", n)
        return [fib(n + OFFSET), fib(fib(n))["x"]]
"""


async def test_a_plan(bench: Bench) -> None:
    bench.write("helper.py", "OFFSET = 100")
    plan = await bench.plan(FIB, ["--n", "3"])
    made = [(new.name, new.needs) for new in plan.jobs]
    assert made == [("fib(103)", []), ("fib(3)", []), ("fib(…)", [1]), ("result(…)", [0, 2])]
    assert (plan.alias, plan.refs) == (True, [3])
    _, (value,), _ = loads(plan.jobs[3].body.data, lambda number, path: (plan.jobs[3].needs[number], path))
    assert value == [(0, ()), (2, ("x",))], "the part is looked at in a job of its own"
    assert b"\x03wf" not in plan.jobs[0].body.data
    assert b"\x02wf" in plan.jobs[0].body.data
    assert bench.said == b"planning 3\n"
    assert not list((bench.root / "scratch").iterdir())


async def test_describe_and_plan_with_one_process(bench: Bench) -> None:
    bench.write("helper.py", "OFFSET = 0")
    async with bench.planner(FIB) as planner:
        description = await planner.describe()
        assert (description.function, description.help) == ("main", "Count.")
        assert [one.option for one in description.parameters] == ["--n", "--loud"]
        with pytest.raises(WorkflowError, match="unknown option --m"):
            await planner.plan(bench.place, "run", ["--m", "3"])
        assert len((await planner.plan(bench.place, "run", [])).jobs) == 4
        plan = await planner.plan(bench.place, "run", arguments=pack_arguments((5,), {}))
        assert plan.jobs[0].name == "fib(5)"


async def test_arguments_that_do_not_fit(bench: Bench) -> None:
    bench.write("helper.py", "OFFSET = 0")
    async with bench.planner(FIB) as planner:
        with pytest.raises(
            WorkflowError, match="workflow main: got an unexpected keyword argument 'm'; its parameters"
        ):
            await planner.plan(bench.place, "run", arguments=pack_arguments((), {"m": 1}))


async def test_async_workflows_and_plain_values(bench: Bench) -> None:
    assert await bench.value("import orch\n@orch.workflow\nasync def main(): return {'a': 1}\n") == {"a": 1}


async def test_large_bodies_are_in_the_store(bench: Bench) -> None:
    plan = await bench.plan(
        """
        import orch
        @orch.job
        def f(x): return x
        @orch.workflow
        def main(): return [f(b"x" * 100_000), b"y" * 100_000]
        """
    )
    assert plan.value.file == "runs/run/values/000/0.1.value"
    assert plan.jobs[0].body.file == "runs/run/values/000/0.1.body0"
    assert bench.store.exists(plan.jobs[0].body.file)


async def test_files_that_the_workflow_function_imports(bench: Bench) -> None:
    bench.write("in.txt", "hello")
    plan = await bench.plan("import orch\n@orch.workflow\ndef main(): return orch.import_file('in.txt')\n")
    ref = loads(plan.value.data, lambda *_: None)
    assert bench.store.read_bytes(ref.path) == b"hello"
    assert [file.path for file in plan.files] == [ref.path]


async def test_warnings_name_the_original_file(bench: Bench) -> None:
    plan = await bench.plan(
        "import orch\n@orch.job\ndef f(): return 1\n@orch.workflow\ndef main():\n    f()\n    return 2\n"
    )
    assert plan.warnings == [
        f"job f made at {bench.tree}/wf.py:6 will not run: neither returned nor passed to another job"
    ]


# Mistakes ---------------------------------------------------------------------------------------------------------


async def test_an_exception_while_importing(bench: Bench) -> None:
    bench.write("helper.py", "def broken():\n    import json\n    return json.loads('{')\n")
    text = await bench.trouble("import orch\nimport helper\nVALUE = helper.broken()\n@orch.workflow\ndef main(): ...\n")
    lines = text.splitlines()
    assert lines[:2] == [f"{bench.tree}/wf.py cannot be imported:", "Traceback (most recent call last):"]
    assert lines[2:4] == [f'  File "{bench.tree}/wf.py", line 3, in <module>', "    VALUE = helper.broken()"]
    assert lines[4].startswith(f'  File "{bench.tree}/helper.py", line 3, in broken')
    assert lines[-1].startswith("json.decoder.JSONDecodeError: ")
    assert len(lines) == 9  # of the library one frame only, and none of ours
    assert "orchestrator" not in text


async def test_a_missing_module(bench: Bench) -> None:
    assert "ModuleNotFoundError: No module named 'nowhere'" in await bench.trouble("import nowhere\n")


async def test_leaving_while_importing(bench: Bench) -> None:
    assert "SystemExit: 3" in await bench.trouble("import sys\nsys.exit(3)\n")


async def test_an_exception_in_the_workflow_function(bench: Bench) -> None:
    text = await bench.trouble("import orch\n@orch.workflow\ndef main():\n    return 1 / 0\n")
    assert text.splitlines() == [
        "workflow main failed:",
        "Traceback (most recent call last):",
        f'  File "{bench.tree}/wf.py", line 4, in main',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert "called sys.exit(4) instead of returning" in await bench.trouble(
        "import orch, sys\n@orch.workflow\ndef main(): sys.exit(4)\n"
    )


async def test_a_wrong_call_is_shown_at_the_user_s_line(bench: Bench) -> None:
    text = await bench.trouble(
        "import orch\n@orch.job\ndef f(x): ...\n@orch.workflow\ndef main():\n    return f(1, 2)\n"
    )
    assert f'File "{bench.tree}/wf.py", line 6, in main' in text
    assert "job f: too many positional arguments; its parameters are (x)" in text


async def test_bad_options_of_a_decorator(bench: Bench) -> None:
    text = await bench.trouble("import orch\n@orch.job(memory='lots')\ndef f(x): ...\n")
    assert f'File "{bench.tree}/wf.py", line 2, in <module>' in text
    assert "job f: memory='lots': 'lots' is not a size" in text


async def test_no_workflow_or_several(bench: Bench) -> None:
    none = "import orch\n@orch.job\ndef f(): ...\ndef main(): ...\n"
    assert await bench.trouble(none) == (
        f"{bench.tree}/wf.py has no workflow: no function is decorated with @orch.workflow"
    )
    below = "import orch\nif __name__ == '__main__':\n    @orch.workflow\n    def main(): ...\n"
    assert await bench.trouble(below) == (
        f"{bench.tree}/wf.py, line 4: workflow main is defined below `if __name__ == '__main__':`, so it is not there "
        f"when the file is imported: move it to the top level of the file"
    )
    two = "import orch\n@orch.workflow\ndef a(): ...\n@orch.workflow\ndef b(): ...\n"
    assert await bench.trouble(two) == (
        f"{bench.tree}/wf.py has 2 workflows, and a file can have one only: a (line 2), b (line 4)"
    )


async def test_imported_workflows_do_not_count(bench: Bench) -> None:
    bench.write("other.py", "import orch\n@orch.workflow\ndef other(): return 1\n")
    assert await bench.value("import orch\nfrom other import other\n@orch.workflow\ndef main(): return other()\n") == 1


async def test_cycles_and_values_that_cannot_be_pickled(bench: Bench) -> None:
    head = "import orch, threading\n@orch.job\ndef f(x): ...\n@orch.workflow\ndef main():\n"
    with pytest.raises(GraphError, match="needs its own value"):
        await bench.plan(head + "    box = []\n    box.append(f(box))\n    return box\n")
    text = await bench.trouble(head + "    return f([threading.Lock()])\n")
    assert text == "job f(…): argument 'x', item [0]: cannot pickle '_thread.lock' object"


async def test_a_run_started_while_importing(bench: Bench) -> None:
    text = await bench.trouble("import orch\n@orch.workflow\ndef main(): ...\norch.run(main, store='nested')\n")
    assert "orch.run was called while importing the workflow for a run" in text
    assert 'if __name__ == "__main__":' in text
    assert f'File "{bench.tree}/wf.py", line 4, in <module>' in text
    assert not (bench.tree / "nested").exists()


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("os._exit(7)", "ended with exit code 7"),
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
    ],
)
@pytest.mark.parametrize("moment", ["", "    "])
async def test_a_planner_that_dies(bench: Bench, death: str, how: str, moment: str) -> None:
    inside = f"    print('last words')\n{moment}{death}\n"
    text = "import orch, os\n@orch.workflow\ndef main():\n" + (
        inside if moment else f"    ...\nprint('last words', flush=True)\n{death}\n"
    )
    message = await bench.trouble(text)
    assert how in message
    assert message.endswith("the last that it said:\nlast words")


async def test_user_code_cannot_disturb_the_conversation(bench: Bench) -> None:
    text = """
        import orch, os, sys
        print("to stdout")
        os.system("echo from a program")
        print("to stderr", file=sys.stderr)
        assert sys.stdin.read() == ""
        @orch.workflow
        def main(): return 1
    """
    assert await bench.value(text) == 1
    assert sorted(bench.said.splitlines()) == [b"from a program", b"to stderr", b"to stdout"]


async def test_cancelling_ends_the_planner_and_what_it_started(bench: Bench) -> None:
    text = """
        import orch, os, signal, subprocess
        child = subprocess.Popen(["sleep", "1000"])
        print(os.getpid(), child.pid, flush=True)
        @orch.workflow
        def main():
            while True: signal.pause()
    """
    heard = anyio.Event()

    async with bench.planner(text) as planner:

        def hear(data: bytes) -> None:
            bench.said += data
            if bench.said.endswith(b"\n"):  # a line may come in pieces
                heard.set()

        planner._echo = hear
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(planner.plan, bench.place, "run", [])
            await heard.wait()
            _, child = map(int, bench.said.split())
            held = os.pidfd_open(child)
            tasks.cancel_scope.cancel()
    for pid in map(int, bench.said.split()):
        if pid == child:  # an orphan is reaped by init, when that comes to it: wait for its end, not for its burial
            with anyio.fail_after(30):
                await anyio.wait_readable(held)
            os.close(held)
        else:
            assert not alive(pid)


def alive(pid: int) -> bool:
    """Does it run, zombies aside?"""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status not in "ZX"


async def test_a_bundle_that_is_gone(tmp_path: Path) -> None:
    async with Planner.open(tmp_path / "nowhere", os.environ, str(tmp_path)) as planner:
        with pytest.raises(WorkflowError, match="the workflow's code cannot be read"):
            await planner.describe()


# Names ------------------------------------------------------------------------------------------------------------

SHADOWS = ("bus", "cli", "orch", "random", "json", "queue", "adapters", "types", "msgspec_extra", "select", "traceback")


async def test_files_with_the_names_of_others_do_no_harm(bench: Bench) -> None:
    for name in SHADOWS:
        bench.write(f"{name}.py", f"print('the user has a {name}.py')\nNAME = {name!r}\n")
    text = """
        import asyncio, tempfile
        import orch, bus, cli, adapters
        @orch.workflow
        def main():
            orch.context().log("x")
            return [bus.NAME, cli.NAME, adapters.NAME, tempfile.gettempdir() is not None]
    """
    assert await bench.value(text) == ["bus", "cli", "adapters", True]


@pytest.mark.parametrize("name", ["random", "orch", "my-flow", "json"])
async def test_a_workflow_with_an_odd_name(bench: Bench, name: str) -> None:
    path = bench.write(f"{name}.py", "import orch\n@orch.job\ndef f(): ...\n@orch.workflow\ndef main(): return [f()]\n")
    plan = await bench.plan(Source.file(path))
    assert b"workflow_" in plan.jobs[0].body.data


async def test_a_module_in_a_package(bench: Bench) -> None:
    bench.write("pkg/__init__.py", "")
    bench.write("pkg/sub/__init__.py", "")
    bench.write("pkg/sub/main.py", "import orch\nfrom .. import data\n@orch.workflow\ndef main(): return data.X\n")
    bench.write("pkg/data.py", "from importlib.resources import files\nX = files('pkg').joinpath('x').read_text()\n")
    bench.write("pkg/x", "payload")
    source = Source.of_module("pkg.sub.main", cwd=str(bench.tree))
    bundle = freeze(source, bench.store)
    (bench.tree / "pkg").rename(bench.tree / "moved")  # it is the copy that is used
    async with Planner.open(bench.store.local_path(f"bundles/{bundle.digest}"), os.environ, "/") as planner:
        plan = await planner.plan(bench.place, "run", [])
    assert pickle.loads(plan.value.data) == "payload"


async def test_no_deploy(bench: Bench) -> None:
    path = bench.write("wf.py", "import orch\n@orch.workflow\ndef main(): return __file__\n")
    assert await bench.value(Source.file(path, deploy=False)) == str(path)


# Workflows of this process ----------------------------------------------------------------------------------------

FACTOR = 3


@orch.workflow
def of_this_module(n: int = 1) -> Any:
    return ("module", n)


async def test_a_workflow_of_an_imported_module(bench: Bench) -> None:
    assert await bench.value(Source.of(of_this_module), arguments=pack_arguments((4,), {})) == ("module", 4)


async def test_a_workflow_that_travels_by_value(bench: Bench) -> None:
    factor = 5

    @orch.job
    def times(x: int) -> int:
        return x * factor

    @orch.workflow
    def inside(n: int) -> Any:
        return [times(n), FACTOR]

    plan = await bench.plan(Source.of(inside), arguments=pack_arguments((), {"n": 4}))
    assert plan.jobs[0].name == "times(4)"
    function, args, _ = pickle.loads(plan.jobs[0].body.data)
    assert function(*args) == 20


def test_a_workflow_of_a_script(bench: Bench) -> None:
    script = bench.write(
        "script.py",
        """
        import anyio, dataclasses, os, sys, pickle
        import orch

        @dataclasses.dataclass
        class Point:
            x: int

        @orch.job
        def f(p): return p

        @orch.workflow
        def main(p): return [f(p), Point(p.x + 1)]

        if __name__ == "__main__":
            from orch.attempt import Place
            from orch.authoring.pickling import loads
            from orch.bundle import Source, freeze
            from orch.planning import Planner, pack_arguments
            from orch.store.file import FileStore

            async def start():
                store = FileStore(sys.argv[1])
                bundle = freeze(Source.of(main), store)
                async with Planner.open(store.local_path("bundles/" + bundle.digest), os.environ, "") as planner:
                    arguments = pack_arguments((Point(3),), {})
                    place = Place(sys.argv[1], sys.argv[1] + "/scratch", "h")
                    return await planner.plan(place, "run", arguments=arguments)

            plan = anyio.run(start)
            assert b"script" in plan.jobs[0].body.data and b"__main__" not in plan.jobs[0].body.data
            value = loads(plan.value.data, lambda *_: "job")
            assert type(value[1]) is Point, type(value[1])
            print(value)
        """,
    )
    done = subprocess.run(
        [sys.executable, script, bench.store.root], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("['job', Point(x=4)]\n", "")


def test_arguments_that_cannot_be_sent() -> None:
    import threading

    with pytest.raises(WorkflowError, match=r"the workflow's argument n, item \[0\]: cannot pickle '_thread.lock'"):
        pack_arguments((1,), {"n": [threading.Lock()]})

    @orch.job
    def f() -> int:
        return 1

    with pytest.raises(WorkflowError, match=r"job f\(\) is an argument of the workflow: a job belongs to the run"):
        pack_arguments(([f()],), {})
    assert pack_arguments((), {}) == b""


# Weight -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["orch.work.execute", "orch.work.planner", "orch.work.loader", "orch.work.command"])
def test_workers_import_little(module: str) -> None:
    heavy = "{'anyio', 'asyncio', 'typer', 'rich', 'structlog', 'cloudpickle', 'subprocess', 'orch.planning'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_signals_have_names() -> None:
    from orch.planning import _signal_name

    assert (_signal_name(signal.SIGKILL), _signal_name(200)) == ("SIGKILL", "signal 200")


async def test_a_plan_of_very_many_jobs_comes_in_portions(bench: Bench) -> None:
    plan = await bench.plan(
        """
        import orch

        @orch.job
        def work(n):
            return n

        @orch.workflow
        def main(n: int):
            return [work(k) for k in range(n)]
        """,
        ["--n", "2500"],
    )
    assert isinstance(plan.jobs, ManyJobs)
    assert len(plan.jobs) == len(plan.refs) == 2500
    jobs = list(plan.jobs)
    assert jobs == list(plan.jobs)
    assert [job.name for job in (jobs[0], jobs[1024], jobs[-1])] == ["work(0)", "work(1024)", "work(2499)"]
    assert plan.jobs[2000] == jobs[2000]


def test_many_jobs_are_kept_small() -> None:
    jobs = ManyJobs()
    portion = [NewJob(kind="work", name=f"work({k})", body=Blob(data=b"%b%d" % (b"x" * 100, k))) for k in range(1000)]
    for _ in range(20):
        jobs.add(msgspec.msgpack.encode(portion))
    assert len(jobs) == 20_000
    assert list(jobs) == portion * 20
    assert sum(map(len, jobs._portions)) < 50 * len(jobs)
