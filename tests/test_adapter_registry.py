"""Adapters by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from orch.adapters import registry
from orch.adapters.local import LocalAdapter
from orch.adapters.null import NullAdapter
from orch.errors import AdapterError, UnknownAdapter


def test_our_own() -> None:
    assert isinstance(registry.make_adapter("local"), LocalAdapter)
    assert isinstance(registry.make_adapter("null"), NullAdapter)
    assert {"local", "null"} <= set(registry.adapter_names())


def test_an_unknown_one_names_those_that_are_installed() -> None:
    with pytest.raises(UnknownAdapter, match=r"no adapter 'nope'; installed: .*local") as caught:
        registry.make_adapter("nope")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["kubernetes"])
def test_a_known_one_that_is_not_installed_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    with pytest.raises(UnknownAdapter, match=rf"pip install 'orch\[{name}\]'"):
        registry.make_adapter(name)


def test_those_of_other_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**_: Any) -> list[EntryPoint]:
        return [
            EntryPoint("theirs", "orch.adapters.null:NullAdapter", registry.GROUP),
            EntryPoint("broken", "no.such.module:Thing", registry.GROUP),
        ]

    monkeypatch.setattr("importlib.metadata.entry_points", found)
    assert isinstance(registry.make_adapter("theirs"), NullAdapter)
    with pytest.raises(AdapterError, match=r"'broken' \(no.such.module:Thing\) cannot be loaded"):
        registry.make_adapter("broken")
