"""What a user may write for `accelerators=`, as records.

1, "gpu"                                           one GPU, whichever
"gpu:2", "fpga"                                    a kind, and how many
"nvidia-tesla-k80:2"                               GPUs of a model or brand
{"kind": "gpu", "count": 1, "model": "nvidia"}     the same in parts, each of which may be left out
["gpu:2", "fpga"]                                  several
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orch.authoring.options import at_most, encodable
from orch.bus.events import Accelerator

KINDS = frozenset({"gpu", "fpga", "tpu", "npu"})
"""Words that name a kind. Any other word is the model of a GPU."""

_ACCEPTED = 'give a number, "gpu", "gpu:2", "nvidia-tesla-k80:2", {"kind": "gpu", "count": 1, "model": …}, or a list'


def parse_accelerators(given: Any) -> tuple[Accelerator, ...]:
    """One record for each kind and model. Raises `ValueError` that says what is accepted."""
    counts: dict[tuple[str, str], int] = {}
    for item in given if isinstance(given, list | tuple) else [given]:
        one = _one(item)
        counts[one.kind, one.model] = counts.get((one.kind, one.model), 0) + one.count
    return tuple(
        Accelerator(encodable(kind), at_most(count), encodable(model))
        for (kind, model), count in counts.items()
        if count
    )


def _one(given: Any) -> Accelerator:
    if isinstance(given, Accelerator):
        return given
    if isinstance(given, str):
        return _from_text(given)
    if isinstance(given, Mapping):
        return _from_parts(given)
    return Accelerator(count=_count(given))


def _from_text(text: str) -> Accelerator:
    name, colon, count = (part.strip() for part in text.partition(":"))
    if name.isdecimal() and not colon:
        return Accelerator(count=int(name))
    if not name or (colon and not count.isdecimal()):
        raise ValueError(f"{text!r} is no accelerator: {_ACCEPTED}")
    number = int(count) if colon else 1
    return Accelerator(name.lower(), number) if name.lower() in KINDS else Accelerator("gpu", number, name)


def _from_parts(parts: Mapping[Any, Any]) -> Accelerator:
    unknown = [key for key in parts if key not in ("kind", "count", "model")]
    kind, model = parts.get("kind", "gpu"), parts.get("model") or ""
    if unknown or not isinstance(kind, str) or not kind or not isinstance(model, str):
        raise ValueError(f"an accelerator has the parts kind and model (texts) and count, not {dict(parts)!r:.80}")
    return Accelerator(kind.lower(), _count(parts.get("count", 1)), model)


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{given!r:.80} is no number of accelerators: {_ACCEPTED}")
    return given
