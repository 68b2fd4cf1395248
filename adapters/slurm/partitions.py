"""Partitions: what `sinfo` says of them, what they have in all, and which one a job goes to that names none.

Sources: sinfo(1), slurm.conf(5) for MaxArraySize. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from orch.adapters.batch.dialect import Order, Room, Trouble
from orch.adapters.batch.portions import MARGIN
from orch.bus.events import Accelerator

FORMAT = "%P|%a|%l|%c|%m|%G|%p|%D"
"""Name (the default one with "*"), up or not, time limit, CPUs, memory (MiB), GRES, priority tier, nodes."""

MIB = 1024 * 1024


class Kind(msgspec.Struct, frozen=True):
    """Nodes of a partition that are alike. Memory in bytes."""

    cores: int
    memory: int
    devices: tuple[Accelerator, ...]
    nodes: int


class Partition(msgspec.Struct):
    """`limit`: seconds, 0: none. `tier`: the higher, the sooner its jobs begin."""

    name: str
    default: bool
    up: bool
    limit: float
    tier: int
    kinds: list[Kind]

    @property
    def cores(self) -> int:
        """In all."""
        return sum(kind.cores * kind.nodes for kind in self.kinds)

    def fits(self, order: Order) -> bool:
        """Could it ever run there? The margin for the worker can be done without."""
        enough = not self.limit or order.walltime <= self.limit + MARGIN
        return enough and any(_fits(kind, order) for kind in self.kinds)


def _fits(kind: Kind, order: Order) -> bool:
    return (
        kind.cores >= order.cores
        and kind.memory >= order.memory
        and all(_gives(kind, wanted) for wanted in order.accelerators)
    )


def _gives(kind: Kind, wanted: Accelerator) -> bool:
    alike = (each for each in kind.devices if each.kind == wanted.kind and wanted.model in {"", each.model})
    return sum(each.count for each in alike) >= wanted.count


def read(text: str) -> list[Partition]:
    """What `sinfo --noheader --exact --format=FORMAT` has written. Raises `Trouble` for anything else."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("CLUSTER:"):
            _add(found, line)
    return list(found.values())


def _add(found: dict[str, Partition], line: str) -> None:
    try:
        name, up, limit, cores, memory, gres, tier, nodes = line.strip().split("|")
        kind = Kind(_number(cores), _number(memory) * MIB, devices(gres), _number(nodes))
        new = Partition(name.rstrip("*"), name.endswith("*"), up == "up", seconds(limit), _number(tier), [])
    except ValueError as error:
        raise Trouble(f"sinfo says {line[:200]!r}, which makes no sense") from error
    found.setdefault(new.name, new).kinds.append(kind)


def _number(text: str) -> int:
    return int(text.rstrip("+"))


_DEVICES = re.compile(r"(?P<kind>[^:,(]+)(?::(?P<model>[^:,(]*[^:,(0-9][^:,(]*))?(?::(?P<count>\d+))?(?:\([^)]*\))?")


def devices(gres: str) -> tuple[Accelerator, ...]:
    """The GRES of a node: "gpu:2", "gpu:a100:4(S:0-1),shard:8", "(null)"."""
    if gres.startswith("("):
        return ()
    return tuple(
        Accelerator(match["kind"].strip(), int(match["count"] or 1), match["model"] or "")
        for match in _DEVICES.finditer(gres)
    )


def seconds(limit: str) -> float:
    """A time limit as Slurm writes it: "5:00", "1:00:00", "2-00:00:00"; "infinite" and its like are 0."""
    if limit in {"infinite", "n/a", "UNLIMITED", "NOT_SET"}:
        return 0.0
    days, dash, rest = limit.partition("-")
    parts = [int(part) for part in (rest if dash else limit).split(":")]
    if dash:  # d-h, d-h:m, d-h:m:s
        parts += [0] * (3 - len(parts))
    elif len(parts) == 1:  # minutes
        parts.append(0)
    total = 0
    for part in parts:
        total = total * 60 + part
    return float(total + (int(days) * 86400 if dash else 0))


def choose(partitions: Sequence[Partition], order: Order) -> str:
    """The partition for a job that names none; empty: the site's default, which sbatch knows.

    The default if it can run the job: that is what it is for. Else the one that costs least: without devices that the
    job does not want, of the lowest tier, with the shortest limit. Raises `ValueError` if none can.
    """
    usual = [each for each in partitions if each.default]
    if not partitions or any(each.fits(order) for each in usual):
        return ""
    fitting = [each for each in partitions if each.up and each.fits(order)]
    if not fitting:
        raise ValueError(_lacking(partitions))
    return min(fitting, key=lambda each: (_wasted(each, order), each.tier, each.limit or float("inf"), each.name)).name


def _wasted(partition: Partition, order: Order) -> bool:
    return not order.accelerators and all(kind.devices for kind in partition.kinds)


def _lacking(partitions: Iterable[Partition]) -> str:
    shown = "; ".join(_shown(each) for each in partitions)
    return f"none of the partitions that sinfo shows can give what it asks for: {shown}"


def _shown(partition: Partition) -> str:
    largest = max(partition.kinds, key=lambda kind: (kind.cores, kind.memory))
    limit = f"{partition.limit / 60:g} min" if partition.limit else "any time"
    return f"{partition.name} ({largest.cores} cores, {largest.memory // MIB} MiB, {limit})"


def room(partitions: Sequence[Partition]) -> Room:
    """What there is. Nodes are in several partitions, mostly: the largest one has to do for the sum."""
    kinds = [kind for partition in partitions for kind in partition.kinds]
    most: dict[tuple[str, str], int] = {}
    for device in (each for kind in kinds for each in kind.devices):
        most[device.kind, device.model] = max(device.count, most.get((device.kind, device.model), 0))
    return Room(
        cores=float(max((each.cores for each in partitions), default=0)),
        node_cores=float(max((kind.cores for kind in kinds), default=0)),
        node_memory=max((kind.memory for kind in kinds), default=0),
        accelerators=tuple(Accelerator(kind, count, model) for (kind, model), count in sorted(most.items())),
    )


_ARRAYS = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
_TASKS = re.compile(r"\bmax_array_tasks=(\d+)")


def most_tasks(config: str) -> int | None:
    """How many tasks an array numbered from 1 can have, from `scontrol show config`. None: it does not say.

    MaxArraySize is one more than the largest number that a task can have.
    """
    size, tasks = _ARRAYS.search(config), _TASKS.search(config)
    if size is None:
        return None
    return max(1, min(int(size[1]) - 1, int(tasks[1]) if tasks else int(size[1])))
