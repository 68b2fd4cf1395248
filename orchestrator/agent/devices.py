"""Accelerators: which there are on this host, who gets which, and how the others are hidden from an attempt.

A site says what there is by `ORCH_ACCELERATORS` ("gpu=0,1;fpga=0", "gpu:nvidia-tesla-k80=0,1"; in short "gpu" for
gpu=0, "gpu:2" for gpu=0,1 and "gpu:nvidia-tesla-k80:2" for those of a model; empty: nothing). Else
`nvidia-smi -L` is asked, then the device files are looked at. Of GPUs, `CUDA_VISIBLE_DEVICES` in the agent's own
environment (as a batch system sets it) leaves only those that it names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from orch.bus.events import Accelerator

SAID = "ORCH_ACCELERATORS"
GIVEN = "ORCH_ACCELERATORS_GIVEN"
"""Tells an attempt what it was given, in the same form, of all kinds."""

PATIENCE = 10.0
"""Seconds that `nvidia-smi` may take."""

_NVIDIA = re.compile(r"GPU (\d+): (.+?) \(UUID: (\S+)\)")
_PART = re.compile(
    r"(?P<kind>[a-zA-Z][\w.+-]*)(:(?P<model>[a-zA-Z][\w.+-]*))?"
    r"(\s*=\s*(?P<ids>([^:=;,\s]+(\s*,\s*[^:=;,\s]+)*)?)|(:(?P<count>[1-9]\d{0,2}))?)"
)
_TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"


class Device(msgspec.Struct, frozen=True, order=True):
    """One device. `id`: how its kind's own variables name it, an index mostly; `uuid`: another name, if it has one."""

    kind: str
    id: str
    model: str = ""
    uuid: str = ""


# Who gets which -----------------------------------------------------------------------------------------------------


def choose(there: Iterable[Device], wanted: Sequence[Accelerator]) -> tuple[Device, ...] | None:
    """Devices for all that is wanted, the first that will do; None if there are too few.

    What asks for a model comes first: what does not care takes the rest.
    """
    left, found = sorted(there, key=_order), []
    for each in sorted(wanted, key=lambda each: -len(each.model)):
        fitting = [device for device in left if suits(device, each)][: each.count]
        if len(fitting) < each.count:
            return None
        found += fitting
        left = [device for device in left if device not in fitting]
    return tuple(found)


def _order(device: Device) -> tuple[str, int, str]:
    return device.kind, int(device.id) if device.id.isdigit() else 1 << 30, device.id


def suits(device: Device, wanted: Accelerator) -> bool:
    """Is it of that kind, and of that model or brand? "nvidia", "k80" and "tesla-k80" all are an nvidia-tesla-k80."""
    return device.kind == wanted.kind and (
        not wanted.model or f"-{wanted.model.lower()}-" in f"-{device.model.lower()}-"
    )


def counted(devices: Iterable[Device]) -> tuple[Accelerator, ...]:
    """How many there are of each kind and model."""
    found: dict[tuple[str, str], int] = {}
    for each in devices:
        found[each.kind, each.model] = found.get((each.kind, each.model), 0) + 1
    return tuple(Accelerator(kind, count, model) for (kind, model), count in sorted(found.items()))


def lacking(there: Sequence[Accelerator], wanted: Sequence[Accelerator], held: Sequence[Accelerator] = ()) -> str:
    """For people: what cannot be given out of `there`, of which others have `held`; empty if all of it can."""
    single = [
        Device(each.kind, str(number), each.model, str(position))
        for position, each in enumerate(there)
        for number in range(each.count)
    ]
    if choose(single, [*wanted, *held]) is not None:
        return ""
    taken = f", of which services hold {shown(held)}" if held else ""
    return f"wanted {shown(wanted)}, available {shown(there)}{taken}"


def shown(accelerators: Iterable[Accelerator]) -> str:
    """For people: "2 gpu nvidia-tesla-k80, 1 fpga", or "none"."""
    counts: dict[str, int] = {}
    for each in accelerators:
        name = f"{each.kind} {each.model}".strip()
        counts[name] = counts.get(name, 0) + each.count
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


# How the others are hidden --------------------------------------------------------------------------------------------


def mask(there: Sequence[Device], given: Sequence[Device]) -> dict[str, str]:
    """The environment of an attempt that has been `given` these of the devices of its host.

    ROCm numbers what `ROCR_VISIBLE_DEVICES` leaves from 0 on, and HIP takes `CUDA_VISIBLE_DEVICES` for its own where
    the GPUs are AMD's: so these are places in the list there, and not names.
    """
    if not there:
        return {}
    found = {GIVEN: said(given)}
    if any(each.kind == "gpu" for each in there):
        gpus = [each for each in given if each.kind == "gpu"]
        names = ",".join(each.id for each in gpus)
        places = ",".join(str(place) for place in range(len(gpus)))
        amd = any(suits(each, Accelerator(model="amd")) for each in gpus)
        found |= {
            "CUDA_VISIBLE_DEVICES": places if amd else names,
            "NVIDIA_VISIBLE_DEVICES": names or "none",
            "ROCR_VISIBLE_DEVICES": names,
            "HIP_VISIBLE_DEVICES": places,
        }
    return found


def said(devices: Iterable[Device]) -> str:
    """Devices as `ORCH_ACCELERATORS` has them."""
    found: dict[str, list[str]] = {}
    for each in devices:
        found.setdefault(f"{each.kind}:{each.model}".rstrip(":"), []).append(each.id)
    return ";".join(f"{name}={','.join(ids)}" for name, ids in found.items())


# Which there are ------------------------------------------------------------------------------------------------------


def discover(environment: Mapping[str, str]) -> tuple[Device, ...]:
    """The devices of this host that this process may use. Raises `ValueError` as `parse` does."""
    if SAID in environment:
        return parse(environment[SAID])
    found = _asked_nvidia() or _nvidia_files() or _amd()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    names = [each.strip() for each in visible.split(",")]
    return tuple(each for each in found if each.id in names or (each.uuid and each.uuid in names))


def parse(text: str) -> tuple[Device, ...]:
    """The reverse of `said`; knows the short forms, too. Raises `ValueError` that names what is not understood."""
    found: dict[tuple[str, str], Device] = {}
    for part in filter(str.strip, text.split(";")):
        for device in _parsed(part.strip(), text):
            if found.setdefault((device.kind, device.id), device) is not device:
                raise ValueError(f"{SAID}={text!r} is not understood: {device.kind} {device.id} is named twice")
    return tuple(found.values())


def _parsed(part: str, text: str) -> list[Device]:
    match = _PART.fullmatch(part)
    if match is None:
        forms = "gpu=0,1, gpu:MODEL=0,1, gpu or gpu:2, with ; between them"
        raise ValueError(f"{SAID}={text!r} is not understood: {part!r} is none of {forms}")
    kind, model, ids, count = match["kind"], match["model"] or "", match["ids"], match["count"]
    names = map(str, range(int(count or 1))) if ids is None else filter(None, map(str.strip, ids.split(",")))
    return [Device(kind, name, model) for name in names]


def _asked_nvidia() -> tuple[Device, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    import subprocess

    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, hangs, no text
        return ()
    return tuple(Device("gpu", number, _model(name), uuid) for number, name, uuid in _NVIDIA.findall(done.stdout))


def _model(name: str) -> str:
    """As in "nvidia-tesla-k80", for what calls itself Tesla K80."""
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return plain if plain.startswith("nvidia-") else f"nvidia-{plain}"


def _nvidia_files() -> tuple[Device, ...]:
    names = [name.removeprefix("nvidia") for name in _names("/dev") if re.fullmatch(r"nvidia\d+", name)]
    return tuple(Device("gpu", each, "nvidia") for each in sorted(names, key=int))


def _amd() -> tuple[Device, ...]:
    """The nodes of the topology that have a GPU (the kernel's Documentation/ABI, kfd): CPUs have the id 0."""
    if not os.path.exists("/dev/kfd"):
        return ()
    nodes = sorted((name for name in _names(_TOPOLOGY) if name.isdigit()), key=int)
    count = sum(_first_line(f"{_TOPOLOGY}/{node}/gpu_id") not in {"", "0"} for node in nodes)
    return tuple(Device("gpu", str(number), "amd") for number in range(count))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
