"""Accelerators: which there are, who gets which, and what an attempt sees of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import Lab, Signal, View

from orch.adapters.contract import Capacity, fits
from orch.agent import devices
from orch.agent.devices import Device, choose, counted, discover, mask, parse, said, suits
from orch.attempt import Reason
from orch.bus.events import Accelerator, Resources

K80 = [Device("gpu", str(number), "nvidia-tesla-k80") for number in range(2)]
FPGA = Device("fpga", "0")
SMI = """#!/bin/sh
echo 'GPU 0: Tesla K80 (UUID: GPU-aaaa)'
echo 'GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-bbbb)'
"""


@pytest.mark.parametrize("text", ["", "gpu=0,1;fpga=0", "gpu:nvidia-tesla-k80=0,1", "gpu=0;gpu:amd=1,2"])
def test_what_a_site_says_is_read_and_written(text: str) -> None:
    assert said(parse(text)) == text
    assert discover({devices.SAID: text}) == parse(text)


@pytest.mark.parametrize(
    ("text", "long"),
    [("gpu", "gpu=0"), ("gpu:2", "gpu=0,1"), ("gpu:amd", "gpu:amd=0"), ("gpu:amd:2; fpga", "gpu:amd=0,1;fpga=0"),
     (";;", ""), ("gpu=", ""), (" gpu = 0 , 1 ;", "gpu=0,1")],
)  # fmt: skip
def test_short_forms(text: str, long: str) -> None:
    assert said(parse(text)) == long


@pytest.mark.parametrize(
    "text", ["=0", "gpu=,", ":x=1", "gpu*2", "gpu:0", "gpu:2=0", "gpu 0", "gpu=0,0", "gpu=0;gpu:amd=0", "0,1"]
)
def test_what_is_not_understood_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"^ORCH_ACCELERATORS='.*' is not understood: .*"):
        parse(text)


@pytest.mark.parametrize("visible", [None, "", "0", "GPU-bbbb", "1,0"])
def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    both = (Device("gpu", "0", "nvidia-tesla-k80", "GPU-aaaa"), Device("gpu", "1", "nvidia-a100-sxm4-80gb", "GPU-bbbb"))
    wanted = {None: both, "": (), "0": both[:1], "GPU-bbbb": both[1:], "1,0": both}[visible]
    assert discover({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == wanted
    program.write_text("#!/bin/sh\nexit 9\n")
    assert devices._asked_nvidia() == ()


def test_device_files_are_looked_at_where_there_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_names", lambda _path: ["null", "nvidia10", "nvidia2", "nvidiactl", "kfd"])
    assert devices._nvidia_files() == (Device("gpu", "2", "nvidia"), Device("gpu", "10", "nvidia"))


def test_nodes_with_a_gpu_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {"0": "0", "1": "47123", "2": "47124"}
    monkeypatch.setattr(devices, "_names", lambda _path: [*ids, "x"])
    monkeypatch.setattr(devices.os.path, "exists", lambda path: path == "/dev/kfd")  # type: ignore[attr-defined]
    monkeypatch.setattr(devices, "_first_line", lambda path: ids[path.split("/")[-2]])
    assert devices._amd() == (Device("gpu", "0", "amd"), Device("gpu", "1", "amd"))


@pytest.mark.parametrize(
    ("wanted", "does"),
    [("", True), ("nvidia", True), ("k80", True), ("Tesla-K80", True), ("nvidia-tesla-k80", True), ("k8", False),
     ("amd", False), ("nvidia-tesla-k80-x", False)],
)  # fmt: skip
def test_a_model_or_a_brand_is_enough(wanted: str, does: bool) -> None:
    assert suits(K80[0], Accelerator("gpu", 1, wanted)) is does
    assert not suits(FPGA, Accelerator("gpu", 1, wanted))


def test_what_does_not_care_leaves_the_model_to_what_does() -> None:
    there = [*K80[:1], Device("gpu", "1", "nvidia-a100")]
    wanted = [Accelerator("gpu"), Accelerator("gpu", 1, "k80")]
    assert set(choose(there, wanted) or ()) == set(there)
    assert choose(there, [Accelerator("gpu", 2), Accelerator("gpu", 1, "k80")]) is None
    ten = [Device("gpu", str(number)) for number in range(11)]
    assert choose(set(ten), [Accelerator("gpu", 3)]) == tuple(ten[:3])


def test_what_can_never_be_given_is_named() -> None:
    capacity = Capacity(cores=1, memory=0, disk=0, accelerators=counted([*K80, FPGA]))
    assert fits(Resources(accelerators=(Accelerator("gpu", 2), Accelerator("fpga"))), capacity) == ""
    assert fits(Resources(accelerators=(Accelerator("gpu", 3, "k80"),)), capacity) == (
        "accelerators: wanted 3 gpu k80, available 1 fpga, 2 gpu nvidia-tesla-k80"
    )
    none = fits(Resources(accelerators=(Accelerator("gpu"),)), Capacity(cores=1, memory=0, disk=0))
    assert none == "accelerators: wanted 1 gpu, available none"


def test_the_others_are_hidden() -> None:
    assert mask([], []) == {}
    assert mask([FPGA], []) == {"ORCH_ACCELERATORS_GIVEN": ""}
    hidden = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "none", "ROCR_VISIBLE_DEVICES": "",
              "HIP_VISIBLE_DEVICES": "", "ORCH_ACCELERATORS_GIVEN": ""}  # fmt: skip
    assert mask(K80, []) == hidden
    second = mask(K80, K80[1:])
    assert (second["CUDA_VISIBLE_DEVICES"], second["NVIDIA_VISIBLE_DEVICES"]) == ("1", "1")
    assert second["ORCH_ACCELERATORS_GIVEN"] == "gpu:nvidia-tesla-k80=1"
    amd = [Device("gpu", str(number), "amd") for number in range(3)]
    seen = mask(amd, amd[1:])
    assert (seen["ROCR_VISIBLE_DEVICES"], seen["HIP_VISIBLE_DEVICES"]) == ("1,2", "0,1")
    assert seen["CUDA_VISIBLE_DEVICES"] == "0,1"


async def test_what_was_not_understood_is_told_to_who_asks_for_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devices.SAID, "gpu=0,0")
    lab = Lab(tmp_path)
    try:
        view = await lab.open()
        words = "wanted 1 gpu, available none (ORCH_ACCELERATORS='gpu=0,0' is not understood: gpu 0 is named twice)"
        wanted = (Accelerator("gpu"),)
        assert words in fits(Resources(accelerators=wanted), view.session.capacity())
        assert words in (await view.run_one(view.shell("true", accelerators=wanted))).message
    finally:
        await lab.close()


# Through the agent -----------------------------------------------------------------------------------------------


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setenv(devices.SAID, "gpu:nvidia-tesla-k80=0,1;fpga=7")
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


NAMES = ["CUDA_VISIBLE_DEVICES", "ORCH_ACCELERATORS_GIVEN"]


def look(view: View, form: str, **wanted: object) -> object:
    """An attempt that tells what it sees."""
    if form == "command":
        return view.shell('printf \'["%s", "%s"]\' "$CUDA_VISIBLE_DEVICES" "$ORCH_ACCELERATORS_GIVEN"', **wanted)
    return view.python(jobs.variables, NAMES, form=form, **wanted)


@pytest.mark.parametrize("form", ["command", "fork", "pool"])
async def test_an_attempt_sees_what_it_was_given_and_nothing_else(view: View, form: str) -> None:
    async def seen(**wanted: object) -> object:
        outcome = await view.run_one(look(view, form, **wanted))  # type: ignore[arg-type]
        return json.loads(outcome.stdout.data) if form == "command" else view.value(outcome)

    both = (Accelerator("gpu", 2),)
    assert await seen() == ["", ""]
    assert await seen(accelerators=both) == ["0,1", "gpu:nvidia-tesla-k80=0,1"]
    assert await seen() == ["", ""]
    assert await seen(accelerators=(Accelerator("fpga"),)) == ["", "fpga=7"]


async def test_no_device_is_given_twice(view: View, tmp_path: Path) -> None:
    held = Signal(tmp_path / "held")
    one = (Accelerator("gpu", 1, "k80"),)
    tasks = [
        view.shell(f"echo $CUDA_VISIBLE_DEVICES; read x < {held.path}", accelerators=one, cores=0.1) for _ in range(3)
    ]
    await view.submit(*tasks)
    await view.started(tasks[1])
    assert await view.session.describe(tasks[2].key) == (
        "waits for accelerators: 1 gpu k80 wanted, 1 fpga of 1 fpga, 2 gpu nvidia-tesla-k80 free"
    )
    Path(held.path).write_bytes(b"1\n2\n3\n")
    seen = [(await view.outcome(each)).stdout.data for each in tasks]
    assert sorted(seen[:2]) == [b"0\n", b"1\n"]
    held.close()


async def test_the_leader_knows_what_there_is_and_more_is_an_error(view: View) -> None:
    assert view.session.capacity().accelerators == (Accelerator("fpga"), Accelerator("gpu", 2, "nvidia-tesla-k80"))
    outcome = await view.run_one(view.shell("true", accelerators=(Accelerator("gpu", 3),)))
    assert outcome.reason is Reason.ERROR
    assert "wanted 3 gpu" in outcome.message
