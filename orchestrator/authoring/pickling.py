"""How bodies and values become bytes: pickle protocol 5, in which a job is a reference and no object.

A reference is a persistent id `(k, path)`: number `k` in the record's list of jobs, and the keys that lead to a part
of that job's value. Plain pickle is tried first, cloudpickle only where it fails: for functions and classes that have
no importable name.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

from orch.authoring.functions import JobFunction
from orch.authoring.nodes import Call, Job
from orch.authoring.standins import stand_in
from orch.errors import WorkflowError
from orch.work.manifest import main_module

PROTOCOL = 5


class References:
    """The jobs met in one pickle, numbered in the order in which they were met."""

    __slots__ = ("calls", "numbers")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.numbers: dict[Call, int] = {}

    def number(self, call: Call) -> int:
        """The number of `call`."""
        known = self.numbers.get(call)
        if known is None:
            known = self.numbers[call] = len(self.calls)
            self.calls.append(call)
        return known


class _Plain(pickle.Pickler):
    def __init__(self, file: io.BytesIO, references: References) -> None:
        super().__init__(file, PROTOCOL)
        self._references = references

    def persistent_id(self, found: Any) -> Any:
        return _reference(found, self._references)


def _reference(found: Any, references: References) -> Any:
    if type(found) is Job:
        return (references.number(found._call), found._path)  # noqa: SLF001 - one unit with nodes.py
    return None


@functools.cache
def _by_value() -> Any:
    """The pickler for what has no importable name. cloudpickle is slow to import, so only when it is needed."""
    import cloudpickle  # type: ignore[import-untyped]

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, references: References) -> None:
            super().__init__(file, PROTOCOL)
            self._references = references

        def persistent_id(self, found: Any) -> Any:
            return _reference(found, self._references)

    return ByValue


def dumps(value: Any) -> tuple[bytes, list[Call]]:
    """`value` as bytes, and the jobs that stand in it. Raises whatever pickling raises; see `explain`."""
    references = References()
    file = io.BytesIO()
    try:
        _Plain(file, references).dump(value)
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - user code may raise anything in __reduce__; the second try decides
        references = References()
        file = io.BytesIO()
        _by_value()(file, references).dump(value)
    return file.getvalue(), references.calls


def dump_call(call: Call) -> tuple[bytes, list[Call]]:
    """The body of a call: function, arguments. Raises `WorkflowError` that names the job and the way to the trouble."""
    if call.body:
        return call.body, []
    target = call.target
    if isinstance(target, JobFunction):
        found = target.by_name()
        target = found if found is not None else target.__wrapped__
    try:
        return dumps((target, call.args, call.kwargs))
    except Exception as error:  # see `dumps`
        raise WorkflowError(f"job {call.label}: {_explain_call(call, target, error)}") from error


def _explain_call(call: Call, target: Any, error: Exception) -> str:
    arguments: list[tuple[str, Any]] = [*_named(call), ("the function", target)]
    for name, value in arguments:
        if not _fits(value):
            return explain(name, value, error)
    return f"cannot be pickled: {_text(error)}"


def _named(call: Call) -> Iterator[tuple[str, Any]]:
    """The arguments under the names of their parameters."""
    import inspect

    try:
        signature = inspect.signature(getattr(call.target, "__wrapped__", call.target))
        bound = signature.bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        yield from ((f"argument {index}", value) for index, value in enumerate(call.args, 1))
        yield from ((f"argument {name!r}", value) for name, value in call.kwargs.items())
        return
    yield from ((f"argument {name!r}", value) for name, value in bound.arguments.items())


def explain(name: str, value: Any, error: BaseException) -> str:
    """Where in `value` the thing is that cannot be pickled: "argument 'x', item [2]['conn']: cannot pickle …".

    Looks at the parts of the parts, one level after the other, as long as a part alone does not fit either.
    """
    path, seen = "", {id(value)}
    while True:
        for step, part in _parts(value):
            if id(part) in seen:
                continue
            trouble = _trouble(part)
            if trouble is not None:
                seen.add(id(part))
                path, value, error = path + step, part, trouble
                break
        else:
            where = f"{name}, item {path}" if path else name
            return f"{where}: {_text(error)}"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
        yield from ((f" key {key!r}", key) for key in value)
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", None)
        yield from ((f".{names[i]}" if names else f"[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f" member {part!r}", part) for part in value)
    elif not isinstance(value, type) and not callable(value):
        state = getattr(value, "__dict__", None) or {}
        yield from ((f".{key}", part) for key, part in state.items())
        for slot in (slot for kind in type(value).__mro__ for slot in _slots(kind)):
            if hasattr(value, slot):
                yield f".{slot}", getattr(value, slot)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _trouble(value: Any) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:  # noqa: BLE001 - see `dumps`
        return error
    return None


def _fits(value: Any) -> bool:
    return _trouble(value) is None


def _text(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be pickled"
    text = str(error)
    return text if "pickle" in text else f"cannot be pickled: {type(error).__name__}: {text}"


class Unpickler(pickle.Unpickler):
    """Reads what `dumps` wrote. `resolve(k, path)` gives what stands for a reference.

    `rename` replaces names of modules: what a script defined as `__main__` is imported here under another name.
    `lenient` puts stand-ins where a class cannot be imported.
    """

    def __init__(
        self,
        data: bytes,
        resolve: Callable[[int, tuple[Any, ...]], Any],
        rename: dict[str, str] | None = None,
        *,
        lenient: bool = False,
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve
        self._rename = rename or {}
        self._lenient = lenient

    def persistent_load(self, pid: Any) -> Any:
        """What stands for a reference."""
        number, path = pid
        return self._resolve(number, path)

    def find_class(self, module: str, name: str) -> Any:
        """A class or function, by the name of the module that it has here."""
        module = self._rename.get(module, module)
        if module not in sys.modules and module == main_module():
            module = "__main__"  # the script that started the run reads what its jobs made
        try:
            return super().find_class(module, name)
        except Exception:
            if not self._lenient:
                raise
            return stand_in(module, name)


def loads(data: bytes, resolve: Callable[[int, tuple[Any, ...]], Any], *, lenient: bool = False) -> Any:
    """What `dumps` wrote, with its references resolved. `lenient`: see `orch.authoring.standins`."""
    return Unpickler(data, resolve, lenient=lenient).load()
