"""Adapters by name: our own, and those that other distributions bring (entry-point group `orch.adapters`)."""

from __future__ import annotations

import importlib
from typing import Any, cast

from orch.adapters.contract import Adapter
from orch.errors import AdapterError, UnknownAdapter

GROUP = "orch.adapters"

_OURS = {
    "local": "orch.adapters.local:LocalAdapter",
    "inprocess": "orch.adapters.inprocess:InProcessAdapter",
    "null": "orch.adapters.null:NullAdapter",
    "slurm": "orch.adapters.slurm:adapter",
    "gridengine": "orch.adapters.gridengine:adapter",
    "lsf": "orch.adapters.lsf:adapter",
    "pbs": "orch.adapters.pbs:adapter",
    "torque": "orch.adapters.torque:adapter",
    "htcondor": "orch.adapters.htcondor:adapter",
    "fake": "orch.testing.cluster.dialect:adapter",
    "ssh": "orch.adapters.ssh:adapter",
}
_EXTRAS = ("kubernetes",)


def adapter_names() -> list[str]:
    """The names of all adapters that are installed."""
    return sorted({*_OURS, *_others()})


def make_adapter(name: str) -> Adapter:
    """A new adapter of that name. Raises `UnknownAdapter`, or `AdapterError` for one that cannot be loaded."""
    target = _OURS.get(name) or _others().get(name)
    if target is None:
        raise UnknownAdapter(_unknown(name))
    module, _, attribute = target.partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module), attribute)
        return cast("Adapter", factory())
    except Exception as error:  # a plug-in may raise anything
        raise AdapterError(f"the adapter {name!r} ({target}) cannot be loaded: {error}") from error


def _others() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and not needed for our own

    return {each.name: each.value for each in entry_points(group=GROUP)}


def _unknown(name: str) -> str:
    text = f"there is no adapter {name!r}; installed: {', '.join(adapter_names())}"
    if name in _EXTRAS:
        text += f". It comes with: pip install 'orch[{name}]'"
    return text
