"""Looking inside a run: one process, attempts that are killed on purpose, files for successors only, its graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flows import looked, related, trying
from support.command import log_directory, running, until
from support.command import orch as command
from support.runs import Ran, run
from test_examples import EXAMPLES, expected, python_files

import orch
from orch.bus import events as ev
from orch.leader.chaos import doom

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the flows as this process does."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


# In one process -------------------------------------------------------------------------------------------------------


def test_a_breakpoint_is_reached_in_the_process_of_the_command(tmp_path: Path) -> None:
    with running(
        "run",
        "--quiet",
        "--in-process",
        "-m",
        "flows.looked_main",
        cwd=tmp_path,
        PYTHONBREAKPOINT="flows.looked.stopped",
    ) as process:
        out, err = process.communicate(timeout=60)
    assert out == f"stopped in looked_at of process {process.pid}: ['length', 'word']\n\"wombat 6\"\n", err


async def test_what_runs_in_one_process_gives_the_same(tmp_path: Path) -> None:
    """Tries, checkpoints, children, follow-ons, capsules: the adapter is all that differs."""
    for adapter in ("local", "inprocess"):
        place = tmp_path / adapter
        place.mkdir()
        ran = await run(place / "s", trying.checkpointed, where=str(place), adapter=adapter, live=False)
        assert ran.value == "value of life 1"
        assert (place / "lives").read_text().split() == ["1", "2", "3"]
        whole = await run(place / "s", related.capsule, said=str(place / "said"), adapter=adapter)
        assert whole.value == {"whole": "a", "outer": "a", "child": "child a", "after": "after"}
        assert set(whole.states().values()) == {"done"}


# Killed on purpose ----------------------------------------------------------------------------------------------------


def sorted_lines(place: Path) -> None:
    text = "".join(f"line {(number * 7919) % 2000}\n" for number in range(2000))
    (place / "text").write_text(text)


@pytest.mark.parametrize("example", ["wordcount", "mergesort", "commands", "database"])
def test_examples_give_the_same_result_although_attempts_are_killed(tmp_path: Path, example: str) -> None:
    if example == "database" and not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("a PostgreSQL server is not installed here (Debian: apt install postgresql)")
    python_files(tmp_path / "tree", 40)
    sorted_lines(tmp_path)
    options = {
        "wordcount": ["--root", str(tmp_path / "tree"), "--files-per-job", "2"],
        "mergesort": ["--path", str(tmp_path / "text"), "--lines-per-job", "200"],
        "commands": ["--path", str(tmp_path / "text"), "--top", "3"],
        "database": ["--numbers", "100"],
    }[example]
    own = ["--quiet", "--run-id", f"shot-{example}", "--retries", "0", "--out", str(tmp_path / "out")]
    done = command("run", *own, "--chaos", "0.3", EXAMPLES / f"{example}.py", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    if example == "wordcount":
        assert value == expected(tmp_path / "tree")
    elif example == "mergesort":
        assert Path(value).read_text() == "".join(sorted((tmp_path / "text").read_text().splitlines(keepends=True)))
    else:
        plain = command("run", "--quiet", EXAMPLES / f"{example}.py", *options, cwd=tmp_path)
        assert json.loads(plain.stdout) == value
    lost = Ran(tmp_path / ".orch", f"shot-{example}").all(ev.Retrying)
    assert lost
    assert {(event.reason, event.charged) for event in lost} == {("LOST", False)}


def test_a_small_run_has_its_share_too() -> None:
    """Whatever the run is called, and however alike its keys are."""
    for run_id in ("r", "20261121-163649-52v0", "20261121-163649-52v1", "nightly"):
        dooms = [doom(f"{run_id}.{job}.1", 0.3, 5) for job in range(1, 301)]
        assert 60 < sum(seconds > 0 for seconds in dooms) < 120
        assert all(any(dooms[start : start + 30]) for start in range(0, 300, 30))
        assert 1 < sum(dooms) / sum(seconds > 0 for seconds in dooms) < 4


# Files for successors only --------------------------------------------------------------------------------------------


def used(where: Path) -> list[int]:
    """How much the store held at the end of each link."""
    return [int(path.read_text().split()[-1]) for path in sorted(where.iterdir(), key=lambda path: int(path.name))]


@pytest.mark.parametrize("chaining", [True, False])
async def test_the_disk_use_of_a_long_chain_stays_flat(tmp_path: Path, chaining: bool) -> None:
    where = tmp_path / "used"
    where.mkdir()
    settings = {"chaining": chaining}
    ran = await run(tmp_path / "s", looked.chain, where=str(where), links=100, settings=settings)
    assert ran.value == 100
    assert max(used(where)) <= 20 * MIB
    assert len(ran.all(ev.Removed)) == 100
    assert looked.held(tmp_path / "s") == 0


async def test_files_are_there_as_long_as_a_restart_could_need_them(tmp_path: Path) -> None:
    """Killed in the middle, twice."""
    where, store = tmp_path / "used", tmp_path / "s"
    where.mkdir()
    first = ["run", "--run-id", "r", "-m", "flows.looked_main", "--where", str(where)]
    again = ["replay", "r", "--restart"]
    for words, link in ((first, 30), (again, 60)):
        words[1:1] = ["--quiet", "--store", str(store)]
        with running(*words, cwd=tmp_path) as process:
            await until(
                log_directory(store, "r"),
                lambda event, link=link: isinstance(event, ev.Succeeded) and event.job >= link,
            )
            process.kill()
            process.wait()
    done = command(*again, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr
    assert looked.held(store) == 0
    assert [len(path.read_text().splitlines()) for path in where.iterdir()] == [1] * 100


async def test_the_files_of_the_result_stay(tmp_path: Path) -> None:
    where = tmp_path / "used"
    where.mkdir()
    ran = await run(tmp_path / "s", looked.keeps_the_last, where=str(where))
    assert looked.held(tmp_path / "s") == MIB
    fetched = command("files", ran.run, "--fetch", "*", "--to", "out", "--store", ran.store, cwd=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    (final,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert int.from_bytes(final.read_bytes()[:8], "little") == 2


# The graph ------------------------------------------------------------------------------------------------------------


async def test_the_graph_of_a_run_that_goes_on_and_of_its_log(tmp_path: Path) -> None:
    async with orch.Orchestrator(tmp_path / "s") as orchestrator:
        handle = await orchestrator.start(related.tree, said=str(tmp_path / "said"))
        assert len(handle.graph.roots) == 1  # as soon as there is a run
        await handle.result()
        graph = handle.graph
    ids = {status.name: job for job, status in orch.replay(tmp_path / "s").items()}
    a = next(job for name, job in ids.items() if name.startswith("branch") and job in graph.roots)
    children = graph.children(a)
    assert len(children) == 2
    assert graph.follow_ons(a) == [ids["last"], ids["a!"]] or set(graph.follow_ons(a)) == {ids["last"], ids["a!"]}
    assert all(graph.predecessors(child) == [a] for child in children)
    assert ids["last"] in graph.predecessors(ids["very last"])
    order = graph.order()
    assert sorted(order, key=int) == sorted(ids.values(), key=int)
    assert order.index(ids["last"]) > max(order.index(child) for child in children)
    replayed = orch.replay(tmp_path / "s").graph
    assert (replayed.order(), replayed.roots) == (order, graph.roots)
