"""What a site is like, as far as its commands tell: which resources count memory, which hosts there are. Pure.

Source: complex(5), sge_types(5), qhost(1), qconf(1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from orch.adapters.batch.dialect import Room, Trouble
from orch.adapters.gridengine.records import size

MIB = 1 << 20

_PREFERRED = ("h_vmem", "m_mem_free", "mem_free", "virtual_free", "h_rss", "mem_requested", "ram")
"""Which resource for memory is taken, if the site counts several and the user names none."""

_HINT = "mem_free"
"""Where the site counts none: at least the job is put on a host that has so much at that moment."""


class Complex(NamedTuple):
    """A resource. `consumable`: NO, YES (for each slot), JOB (once), HOST (once a host)."""

    kind: str
    requestable: bool
    consumable: str


def read_complexes(text: str) -> dict[str, Complex]:
    """`qconf -sc`: by name and by shortcut."""
    found: dict[str, Complex] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 8 and not line.startswith("#"):
            each = Complex(words[2], words[4] in ("YES", "FORCED"), words[5])
            found |= {words[0]: each, words[1]: each}
    return found


def memory_resources(complexes: Mapping[str, Complex], chosen: str) -> list[str]:
    """By which resources memory is asked for. `chosen`: by the user, with commas; empty: what the site counts."""
    if chosen:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    if not complexes:
        return ["h_vmem"]
    usable = [name for name in _PREFERRED if name in complexes and complexes[name].requestable]
    counted = [name for name in usable if complexes[name].consumable != "NO"]
    return counted[:1] or ([_HINT] if _HINT in usable else [])


def amount(complexes: Mapping[str, Complex], name: str, wanted: int, cores: int) -> str:
    """How much of a resource to ask for, so that the job has `wanted` bytes in all: that may be multiplied by slots.

    Limits (h_…, s_…) are, whether they are counted or not (queue_conf(5), RESOURCE LIMITS; seen).
    """
    known = complexes.get(name)
    each_slot = name[:2] in ("h_", "s_") if known is None or known.consumable == "NO" else known.consumable == "YES"
    return f"{math.ceil(wanted / (cores if each_slot else 1) / MIB)}M"


def devices(complexes: Mapping[str, Complex], name: str, count: int, cores: int) -> str:
    """How many to ask for. Raises `ValueError` where it cannot be said: as many for each core, and not so many."""
    known = complexes.get(name)
    if complexes and known is None:
        raise ValueError(
            f"this site has no resource {name!r}: name the one that counts GPUs with gridengine-gpu-resource"
        )
    if known is None or known.consumable != "YES" or cores == 1:
        return str(count)
    if count % cores:
        raise ValueError(f"{name} is counted for each slot: {count} of them cannot be had with {cores} cores")
    return str(count // cores)


def most_tasks(text: str) -> int:
    """`qconf -sconf`: of an array; 0: not said, or not limited (sge_conf(5), max_aj_tasks)."""
    match = re.search(r"^max_aj_tasks\s+(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def read_environments(text: str) -> list[str]:
    """`qconf -spl`: the names of parallel environments."""
    return [line.strip() for line in text.splitlines() if re.fullmatch(r"\S+", line.strip())]


def read_room(text: str) -> Room:
    """`qhost -q -xml`. Raises `Trouble`.

    A host that does not answer shows no numbers; then what the largest one has is not known.
    """
    try:
        root = ET.fromstring(text)  # noqa: S314  it comes from the batch system's own program
        hosts = [each for each in root.iter("host") if each.get("name") != "global"]
        slots = [sum(_slots(queue) for queue in host.iter("queue")) for host in hosts]
    except (ET.ParseError, ValueError) as error:
        raise Trouble(f"qhost: an answer that makes no sense ({error}): {text[:200]!r}") from error
    memory = [_memory(host) for host, many in zip(hosts, slots, strict=True) if many]
    return Room(
        cores=float(sum(slots)),
        node_cores=float(max(slots, default=0)),
        node_memory=max(memory) if memory and all(memory) else 0,
    )


def _slots(queue: ET.Element) -> int:
    values = {each.get("name"): (each.text or "").strip() for each in queue.iter("queuevalue")}
    return int(values.get("slots") or 0) if "B" in values.get("qtype_string", "B") else 0


def _memory(host: ET.Element) -> int:
    """With swap: a request is compared with what a site has set, and that may be more than there is of memory."""
    values = {each.get("name"): (each.text or "").strip() for each in host.iter("hostvalue")}
    total = size(values.get("mem_total", "-"))
    return int(total + size(values.get("swap_total", "-"))) if total else 0


def choices(names: Sequence[str]) -> str:
    """For a message."""
    return f"this site has {', '.join(names)}" if names else "qconf -spl lists them"
