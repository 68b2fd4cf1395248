"""The result of a run as text: JSON where it can be, else repr. Files are shown by where they are."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from orch.authoring.standins import StandIn
from orch.files import DirRef, FileRef

Ref = FileRef | DirRef
Place = Callable[[Ref], str]
"""Says where a file or directory is; exports it, if that is wanted."""


def result_text(value: Any, place: Place, encoding: str = "utf-8") -> str:
    """One line of JSON, or a repr, that `encoding` can hold."""
    try:
        shown = _plain(value, place)
    except RecursionError:  # nested too deeply for JSON, or in itself
        shown = value
    try:
        text = json.dumps(shown, allow_nan=False, ensure_ascii=False, default=_refuse)
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(shown, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(shown).encode(encoding, "backslashreplace").decode(encoding)
    return text


def print_result(value: Any, place: Place) -> None:
    """The only thing that goes to stdout."""
    print(result_text(value, place, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()


def _plain(value: Any, place: Place) -> Any:
    """`value` with references replaced by paths, and containers in it by what JSON has, as far as it can."""
    if isinstance(value, FileRef | DirRef):
        return place(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, enum.Enum):  # what its values are is an affair of the code, unless they are plain themselves
        return value.value if isinstance(value, str | int) else value.name or str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), place) for field in dataclasses.fields(value)}
    if isinstance(value, StandIn) and not vars(value).get("_parts"):  # an object of the workflow's, by its attributes
        return {name: _plain(item, place) for name, item in vars(value).items() if name != "_parts"}
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item, place) for key, item in value.items()}
    if type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return [_plain(item, place) for item in value]
    return value


def _plain_key(key: Any) -> Any:
    """JSON has text for keys only, and json.dumps would quietly turn numbers into text: such a value is no JSON."""
    if isinstance(key, enum.Enum):
        key = key.value if isinstance(key, str | int) else key.name or str(key)
    return key if isinstance(key, str) else _NotText(key)


class _NotText:
    """A key that json.dumps refuses, and that repr shows as what it is."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def __repr__(self) -> str:
        return repr(self._key)


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)
