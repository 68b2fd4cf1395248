"""Stand-ins for classes that cannot be imported here, so that a value can be shown without its workflow's code."""

from __future__ import annotations

import functools
from typing import Any, Self


class StandIn:
    """An object of a class that is not here. It has the attributes and shows itself like a dataclass would."""

    _shown = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Take whatever the class would have taken."""
        made = super().__new__(cls)
        made.__dict__.update(kwargs)
        made.__dict__["_parts"] = list(args)
        return made

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Everything was said to `__new__`."""

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)
            elif part is not None:
                self._parts.append(part)

    def append(self, item: Any) -> None:
        """For what was a list."""
        self._parts.append(item)

    def extend(self, items: Any) -> None:
        """For what was a list."""
        self._parts.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._parts.append({key: value})

    @property
    def _parts(self) -> list[Any]:
        parts: list[Any] = self.__dict__["_parts"]
        return parts

    def __repr__(self) -> str:
        shown = [repr(part) for part in self._parts]
        shown.extend(f"{name}={value!r}" for name, value in self.__dict__.items() if name != "_parts")
        return f"{self._shown}({', '.join(shown)})"


@functools.cache
def stand_in(module: str, name: str) -> type[StandIn]:
    """The stand-in for a class, or for a function that makes objects."""
    return type(name.rpartition(".")[2], (StandIn,), {"_shown": name, "__module__": module})
