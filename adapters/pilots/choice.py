"""What a user says of pilots: `nodes=2,time=30m`. Light: the command reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from orch.sizes import parse_duration, parse_size

PILOT = "batch-pilot"
ADDRESS = "batch-pilot-address"


class PilotChoice(msgspec.Struct, frozen=True):
    """Seconds and bytes; 0: not said.

    `nodes`  pilots at once, at most; `min`: so many stay, also when there is nothing to do
    `cores`, `memory`, `time`, `queue`, `gpus`: what each asks the batch system for
    `idle`   after which one that has nothing to do is given back
    """

    nodes: int = 1
    min: int = 0
    cores: int = 0
    memory: int = 0
    time: float = 0.0
    queue: str = ""
    gpus: int = 0
    idle: float = 60.0


def parse_pilot(text: str) -> PilotChoice:
    """Raises `ValueError` with what is accepted."""
    found: dict[str, Any] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = (each.strip() for each in part.partition("="))
        meaning = _PARTS.get(name)
        if meaning is None or not equals:
            raise ValueError(f"{part!r} is none of {', '.join(f'{each}=' for each in _PARTS)}")
        if name in found:
            raise ValueError(f"{name}= is said twice")
        try:
            found[name] = meaning(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if "nodes" not in found:
        raise ValueError("it has to say how many there may be at once: nodes=2, say")
    choice = PilotChoice(**found)
    if choice.min > choice.nodes:
        raise ValueError(f"min={choice.min} is more than nodes={choice.nodes}")
    return choice


def _number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise ValueError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parse


def _time(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time in which anything could be done")
    return seconds


def _name(text: str) -> str:
    if not text:
        raise ValueError("its name is missing")
    return text


_PARTS: dict[str, Callable[[str], object]] = {
    "nodes": _number(1),
    "time": _time,
    "cores": _number(1),
    "memory": parse_size,
    "queue": _name,
    "gpus": _number(1),
    "idle": _time,
    "min": _number(0),
}
