"""How bodies and values become bytes: pickle protocol 5, in which a job is a reference and no object.

A reference is a persistent id `(k, path)`: number `k` in the record's list of jobs, and the keys that lead to a part
of that job's value. Plain pickle is tried first, cloudpickle only where it fails: for functions and classes that have
no importable name. What cloudpickle would turn into something else (an open file into its text) is refused.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from orch.authoring.functions import JobFunction
from orch.authoring.nodes import Call, Job
from orch.authoring.standins import stand_in
from orch.authoring.workflows import Workflow
from orch.errors import WorkflowError
from orch.work.manifest import main_module

PROTOCOL = 5


class References:
    """The jobs met in one pickle, numbered in the order in which they were met."""

    __slots__ = ("calls", "numbers", "parts")

    def __init__(self, known: Sequence[Call] = ()) -> None:
        self.calls: list[Call] = list(known)
        self.numbers: dict[Call, int] = {call: number for number, call in enumerate(known)} if known else {}
        self.parts = False  # is one of them met as a part of its value?

    def number(self, call: Call) -> int:
        """The number of `call`."""
        known = self.numbers.get(call)
        if known is None:
            known = self.numbers[call] = len(self.calls)
            self.calls.append(call)
        return known


class _Misplaced(WorkflowError):
    """A job function or a workflow stands where a job is meant."""


class _Plain(pickle.Pickler):
    """`target` is the job function to be called, which may stand at the front, once; None: there is none."""

    def __init__(self, file: io.BytesIO, references: References, target: Any) -> None:
        super().__init__(file, PROTOCOL)
        self._references = references
        self._target = target

    def persistent_id(self, found: Any) -> Any:
        kind = type(found)
        if kind is JobFunction or kind is Workflow:
            if found is not self._target:
                raise _Misplaced(misplaced(found))
            self._target = None
            return None
        return _reference(found, self._references) if issubclass(kind, Job) else None


def _reference(job: Job, references: References) -> Any:
    call, path = job._call, job._path  # noqa: SLF001 - one unit with nodes.py
    if call is None:
        raise _Misplaced(f"{job!r} has no value before its run() has returned: pass on what others need of it")
    if path:
        references.parts = True
    return (references.number(call), path)


def misplaced(found: Any) -> str:
    """What is wrong if this stands where a job or a value is meant; empty if nothing is."""
    if isinstance(found, JobFunction | Workflow):
        kind = "a job function" if isinstance(found, JobFunction) else "a workflow"
        return f"{found.name} is {kind}; did you mean {found.name}(…)?"
    return ""


def _find_misplaced(value: Any) -> None:
    """Raise for a job function or workflow in containers. Inside functions, in their globals say, they are at home."""
    waiting, seen = [value], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if misplaced(found):
            raise _Misplaced(misplaced(found))
        if isinstance(found, dict):
            waiting.extend((*found, *found.values()))
        elif isinstance(found, list | tuple | set | frozenset):
            waiting.extend(found)


@functools.cache
def _by_value() -> Any:
    """The pickler for what has no importable name. cloudpickle is slow to import, so only when it is needed.

    It would turn a file into a copy of its text, and a view into bytes: without us.
    """
    import cloudpickle  # type: ignore[import-untyped]  # has no types

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]  # its base has no types
        def __init__(self, file: io.BytesIO, references: References) -> None:
            super().__init__(file, PROTOCOL)
            self._references = references

        dispatch_table: ClassVar[Any] = ChainMap(
            {io.TextIOWrapper: _reduce_stream, type(os.environ): _reduce_environment},
            # Its table is private, and there is no other way to leave one entry out.
            {kind: reduce for kind, reduce in cloudpickle.Pickler._dispatch_table.items() if kind is not memoryview},  # noqa: SLF001
            copyreg.dispatch_table,
        )

        def persistent_id(self, found: Any) -> Any:
            return _reference(found, self._references) if issubclass(type(found), Job) else None

    return ByValue


def _reduce_stream(stream: Any) -> Any:
    """The standard streams are those of the process that reads; any other file stays where it is open."""
    for name in ("stdout", "stderr"):
        if stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(stream).__name__!r} object: an open file cannot be passed on")


def _reduce_environment(environment: Any) -> Any:
    """The environment is that of the process that reads: what is in it is not to be stored."""
    return getattr, (os, "environb" if environment is getattr(os, "environb", None) else "environ")


def dumps_by_value(value: Any) -> bytes:
    """What comes from a notebook or session, with the functions and classes that it uses."""
    file = io.BytesIO()
    _by_value()(file, References()).dump(value)
    return file.getvalue()


def dumps(value: Any, target: Any = None) -> tuple[bytes, list[Call]]:
    """`value` as bytes, and the jobs that stand in it. Raises whatever pickling raises; see `explain`.

    With `target` the value begins with the function that is called, be it a job function.
    """
    data, references = _dump(value, target)
    return data, references.calls


def has_parts(value: Any) -> bool:
    """Does a part of a job's value (`job["key"]`) stand in it? What cannot be pickled has none."""
    try:
        return _dump(value, None)[1].parts
    except Exception:  # noqa: BLE001 - whoever pickles it for good explains what is wrong
        return False


def _dump(value: Any, target: Any, known: Sequence[Call] = ()) -> tuple[bytes, References]:
    """`known`: jobs that have numbers already."""
    references = References(known)
    file = io.BytesIO()
    try:
        _Plain(file, references, target).dump(value)
    except (RecursionError, _Misplaced):
        raise
    except Exception:  # noqa: BLE001 - user code may raise anything in __reduce__; the second try decides
        _find_misplaced(value if target is None else value[1:])
        references = References(known)
        file = io.BytesIO()
        _by_value()(file, references).dump(value)
    return file.getvalue(), references


class Dumped(NamedTuple):
    """A call as bytes: its body, and the options that depend on values. `needs` are the jobs in both, one numbering."""

    body: bytes
    needs: list[Call]
    wanted: bytes = b""


def dump_call(call: Call) -> Dumped:
    """A call as bytes. Raises `WorkflowError` that names the job and the way to the trouble."""
    if call.body:
        body, needs = call.body, []
    elif call.form == "group":
        body, needs = b"", [inner for inner in call.args if isinstance(inner, Call)]
    else:
        body, needs = _dump_function(call)
    wanted = call.options.wanted
    return _dump_wanted(call, body, needs) if wanted else Dumped(body, needs)


def _dump_function(call: Call) -> tuple[bytes, list[Call]]:
    target = call.target
    if isinstance(target, JobFunction):
        found = target.by_name()
        target = found if found is not None else target.__wrapped__
    try:
        return dumps((target, call.args, call.kwargs), target)
    except Exception as error:  # see `dumps`
        raise WorkflowError(f"job {call.label}: {_explain_call(call, target, error)}") from error


def _dump_wanted(call: Call, body: bytes, needs: list[Call]) -> Dumped:
    wanted = call.options.wanted
    try:
        data, references = _dump(wanted, None, needs)
    except Exception as error:  # see `dumps`
        option = next((name for name, value in wanted.items() if not _fits(value)), "")
        raise WorkflowError(f"job {call.label}: {explain(f'option {option}', wanted.get(option), error)}") from error
    return Dumped(body, references.calls, data)


def _explain_call(call: Call, target: Any, error: Exception) -> str:
    for name, value in _named(call):
        if not _fits(value):
            return explain(name, value, error)
    try:
        dumps((target,), target)
    except Exception as trouble:  # noqa: BLE001 - see `dumps`
        return f"the function: {_text(trouble)}"
    return f"cannot be pickled: {_text(error)}"


def _named(call: Call) -> Iterator[tuple[str, Any]]:
    """The arguments under the names of their parameters, or the attributes of an object that is run."""
    import inspect

    from orch.authoring.classes import Portrait

    if call.args and isinstance(call.args[0], Portrait):
        yield from ((f"attribute {name!r}", value) for name, value in call.args[0].parts().items())
        return
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
    if isinstance(error, RecursionError):  # the way there would be as long as it is deep
        return f"{name}: {_text(error)}"
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
    if isinstance(error, WorkflowError):  # what is ours says by itself what is wrong
        return str(error)
    text = str(error)
    return text if "pickle" in text else f"cannot be pickled: {type(error).__name__}: {text}"


class Gone(AttributeError):
    """The code has something no more, or never had it at the top of a module."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(f"module {module} has no {name!r}")
        self.file = getattr(sys.modules[module], "__file__", None) or module
        self.what = name


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
        except Exception as error:  # importing a user's module may raise anything
            if self._lenient:
                return stand_in(module, name)
            if isinstance(error, AttributeError) and module in sys.modules:
                raise Gone(module, name) from error
            raise


def loads(data: bytes, resolve: Callable[[int, tuple[Any, ...]], Any], *, lenient: bool = False) -> Any:
    """What `dumps` wrote, with its references resolved. `lenient`: see `orch.authoring.standins`."""
    return Unpickler(data, resolve, lenient=lenient).load()
