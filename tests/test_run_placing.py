"""Where and when attempts run, in whole runs: limits, shares of cores, accelerators, priorities, who may pass whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from flows import placed
from support.agents import Signal
from support.command import log_directory, running, until
from support.command import orch as command
from support.runs import Ran, run, select
from support.runs import until as until_event

import orch
from orch.bus import events as ev
from orch.bus.events import Accelerator

MIB = 1 << 20


class Gate:
    """What `placed.gated` speaks to."""

    def __init__(self, root: Path) -> None:
        self.said, self.held = Signal(root / "said"), Signal(root / "held")

    @property
    def names(self) -> dict[str, Any]:
        return {"said": self.said.path, "held": self.held.path}

    def open(self, count: int = 1) -> None:
        """Let so many go on."""
        descriptor = os.open(self.held.path, os.O_WRONLY)
        os.write(descriptor, b"." * count)
        os.close(descriptor)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    found = Gate(tmp_path)
    yield found
    found.said.close()
    found.held.close()


@pytest.fixture(autouse=True)
def _flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the flows as this process does."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def most_at_once(events: list[ev.Event]) -> int:
    """The most attempts that ran at one time."""
    live: set[int] = set()
    most = 0
    for event in events:
        if isinstance(event, ev.Running):
            live.add(event.job)
        elif isinstance(event, ev.Succeeded | ev.Retrying | ev.Failed | ev.Cancelled):
            live.discard(event.job)
        most = max(most, len(live))
    return most


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "options", "most"),
    [
        ({"cores": 1}, {"cores": 0.25}, 4),
        ({"cores": 0.5}, {"cores": 0.2}, 2),
        ({"memory": "500 MiB"}, {"cores": 0.1, "memory": "150 MiB"}, 3),
        ({"disk": "10 MiB"}, {"cores": 0.1, "disk": "5 MiB"}, 2),
        ({"cores": 1, "max_jobs": 3}, {"cores": 0.1}, 3),
        ({"cores": 1, "max_local_jobs": 1}, {"cores": 0.1, "local": True}, 1),
        ({"cores": 1, "default_cores": 0.5}, {}, 2),
        ({"memory": "500 MiB", "default_cores": 0.1, "default_memory": "150 MiB"}, {}, 3),
        ({"disk": "10 MiB", "default_cores": 0.1, "default_disk": "5 MiB"}, {}, 2),
    ],
    ids=str,
)
async def test_no_more_at_once_than_limits_allow_and_no_fewer(
    tmp_path: Path, gate: Gate, settings: dict[str, Any], options: dict[str, Any], most: int
) -> None:
    async with orch.Orchestrator(tmp_path / "s", **settings) as orchestrator:
        handle = await orchestrator.start(placed.many, **gate.names, options=options)
        await gate.said.wait(most)
        gate.open(5)
        assert await handle.result() == [None] * 5
        events = [event async for event in handle.events()]
    assert most_at_once(events) == most


async def test_what_a_job_is_given_is_what_it_says_and_else_the_default(tmp_path: Path) -> None:
    settings = {"default_walltime": "1h", "default_preemptible": True, "default_memory": "300 MiB"}
    found = (await run(tmp_path / "s", placed.resources, options={}, settings=settings)).value
    assert (found.walltime, found.preemptible, found.memory, found.cores) == (3600, True, 300 * MIB, 1)
    own = {"walltime": "1m", "preemptible": False, "memory": "200 MiB", "cores": 0.5}
    found = (await run(tmp_path / "s", placed.resources, options=own, settings=settings)).value
    assert (found.walltime, found.preemptible, found.memory, found.cores) == (60, False, 200 * MIB, 0.5)


async def test_why_names_the_limit(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that is handed over a job at a time, and of ones whose agent has no more of something for it."""
    monkeypatch.setenv("ORCH_ACCELERATORS", "fpga=0")
    share = ["--default-cores", "0.1"]
    for name, option, expected in [
        ("jobs", ["--max-jobs", "1"], "1 attempt is live, and --max-jobs is 1"),
        ("cores", ["--max-cores", "1"], "cores: 1 wanted, 0 of 1 free"),
        ("memory", [*share, "--default-memory", "1GiB", "--max-memory", "1.5GiB"], "memory: 1 GiB wanted, 512 MiB of"),
        ("disk", [*share, "--default-disk", "1M", "--max-disk", "1M"], "disk: 1 MiB wanted, 0 B of 1 MiB free"),
        ("fpga", share, "accelerators: 1 fpga wanted, none of 1 fpga free"),
    ]:
        words = [f"--{key}={path}" for key, path in gate.names.items()]
        flow = ["-m", "flows.placed_main", *words, "--jobs", "2"]
        if name == "fpga":
            flow += ["--accelerators", name]
        with running("run", "--quiet", "--run-id", name, *option, *flow, cwd=tmp_path) as process:
            await gate.said.wait()
            await until(log_directory(tmp_path / ".orch", name), lambda event: isinstance(event, ev.Running))
            said = command("why", name, "2", cwd=tmp_path).stdout
            gate.open(2)
            assert await anyio.to_thread.run_sync(process.wait, 60) == 0
        assert expected in said


# Order ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"max_jobs": 1}, {"cores": 0.5}], ids=str)
async def test_higher_priorities_come_first(tmp_path: Path, gate: Gate, settings: dict[str, Any]) -> None:
    async with orch.Orchestrator(tmp_path / "s", **settings) as orchestrator:
        handle = await orchestrator.start(placed.one_after_the_other, **gate.names, priorities=[0, 5, -1, 7, 0])
        await gate.said.wait()
        gate.open()
        await handle.result()
        found = Ran(tmp_path / "s", handle.id)
    names = found.names
    order = [names[event.job] for event in found.all(ev.Running)]
    assert order == ["first", "p7", "p5", "p0", "p0", "p-1"]


async def test_small_ones_are_not_held_up_for_nothing(tmp_path: Path, gate: Gate) -> None:
    """A large one waits; until it has room, a small one that came later takes what is left."""
    async with orch.Orchestrator(tmp_path / "s", cores=0.5) as orchestrator:
        handle = await orchestrator.start(placed.large_and_small, **gate.names)
        await gate.said.wait()
        before = await until_event(handle, lambda event: isinstance(event, ev.Succeeded))
        assert select(before, ev.Succeeded, "small")
        gate.open()
        await handle.result()
    assert [event.job for event in Ran(tmp_path / "s", handle.id).all(ev.Running)] == [1, 3, 2]


# Accelerators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fork", "pool", "command"])
async def test_accelerators_are_given_to_one_attempt_at_a_time_and_hidden_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("ORCH_ACCELERATORS", "gpu:nvidia-tesla-k80=0,1;gpu:nvidia-a100=2,3;fpga=0")
    pipes = [str(tmp_path / name) for name in "ab"]
    for pipe in pipes:
        os.mkfifo(pipe)
    ran = await run(tmp_path / "s", placed.devices, form=form, pipes=pipes, wanted="nvidia-a100")
    first, second, none = (value.split("\n") if isinstance(value, str) else value for value in ran.value)
    assert {first[0], second[0]} == {"gpu:nvidia-a100=2", "gpu:nvidia-a100=3"}
    assert (first[1], second[1]) == (first[0][-1], second[0][-1])
    assert none[:3] == ["", "", ""]  # hidden, not merely not said


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (5, "accelerators: wanted 5 gpu, available 1 fpga, 2 gpu nvidia-tesla-k80"),
        ({"kind": "gpu", "count": 1, "model": "nvidia-a100"}, "accelerators: wanted 1 gpu nvidia-a100, available"),
        ("tpu", "accelerators: wanted 1 tpu, available"),
    ],
)
async def test_more_than_there_are_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, said: str
) -> None:
    monkeypatch.setenv("ORCH_ACCELERATORS", "gpu:nvidia-tesla-k80=0,1;fpga=0")
    with pytest.raises(orch.ResourceError) as refused:
        await run(tmp_path / "s", placed.too_many, wanted=wanted)
    assert said in str(refused.value)
    assert "greedy" in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "accelerators"),
    [
        (1, [Accelerator()]),
        ("gpu", [Accelerator()]),
        ("nvidia-tesla-k80:2", [Accelerator("gpu", 2, "nvidia-tesla-k80")]),
        ({"kind": "fpga", "count": 1}, [Accelerator("fpga")]),
        (["gpu:2", "fpga"], [Accelerator("gpu", 2), Accelerator("fpga")]),
    ],
    ids=str,
)
async def test_how_accelerators_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, accelerators: list[Accelerator]
) -> None:
    monkeypatch.setenv("ORCH_ACCELERATORS", "gpu:nvidia-tesla-k80=0,1;fpga=0")
    ran = await run(tmp_path / "s", placed.resources, options={"accelerators": wanted, "cores": 0.1})
    assert list(ran.value.accelerators) == accelerators
