"""Adapters by name: our own, and those that other distributions bring (entry-point group `orch.adapters`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from orch.adapters.contract import Adapter
from orch.adapters.options import Option
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
    """A new adapter of that name. Raises `UnknownAdapter`, or `AdapterError` for one that cannot be loaded.

    One for other hosts comes with this host beside it.
    """
    adapter = _made(name)
    if not getattr(adapter, "elsewhere", False):
        return adapter
    from orch.adapters.local import LocalAdapter
    from orch.adapters.mixed import MixedAdapter

    return MixedAdapter(adapter, LocalAdapter())


def _made(name: str) -> Adapter:
    target = _OURS.get(name) or _others().get(name)
    if target is None:
        raise UnknownAdapter(_unknown(name))
    module, _, attribute = target.partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module), attribute)
        return cast("Adapter", factory())
    except UnknownAdapter:  # something that it needs is not installed, and it says what
        raise
    except Exception as error:  # a plug-in may raise anything
        raise AdapterError(f"the adapter {name!r} ({target}) cannot be loaded: {error}") from error


def options_of(name: str) -> tuple[Option, ...]:
    """The settings that an adapter of that name has of its own. Those of others have them as `settings`.

    Raises `AdapterError` for one that cannot be loaded.
    """
    from orch.adapters.settings import OURS  # few runs need them

    if name in OURS or name in _OURS or name not in _others():
        return OURS.get(name, ())
    return tuple(getattr(_made(name), "settings", ()))


def known_options() -> dict[str, Option]:
    """The settings of all adapters of ours, by name."""
    from orch.adapters.settings import OURS

    return {option.name: option for options in OURS.values() for option in options}


def check_options(given: Mapping[str, object]) -> dict[str, str]:
    """Settings of adapters, as text. Raises `ValueError` for one that no adapter has, or that cannot be so."""
    known = known_options()
    if not given.keys() <= known.keys():
        known.update({option.name: option for name in _others() for option in options_of(name)})
    found = {}
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"no adapter has a setting {name!r}" + (f" (did you mean {near[0]}?)" if near else ""))
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if problem := option.problem(text):
            raise ValueError(f"{name}: {problem}")
        found[name] = text
    return found


def _others() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and not needed for our own

    return {each.name: each.value for each in entry_points(group=GROUP)}


def _unknown(name: str) -> str:
    text = f"there is no adapter {name!r}; installed: {', '.join(adapter_names())}"
    if name in _EXTRAS:
        text += f". It comes with: pip install 'orch[{name}]'"
    return text
