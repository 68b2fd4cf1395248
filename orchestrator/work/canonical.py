"""A canonical digest of a value: equal values have equal digests, in any process and on any host.

It is made of what a value is, and never of a pickle's bytes, which differ with the order of sets and dicts, with what
is shared inside, and from one version of Python to the next. Types count: 1, 1.0 and True differ, and so do a list and
a tuple. All NaNs are one; 0.0 and -0.0 differ, since functions can tell them apart. The order of a dict's items does
not count. Files count by name, contents and executable bit, and not by where the store has them. Functions and classes
count by name: their code is the bundle's matter.

What has no such digest (a generator, an open file, a lambda) raises `Uncacheable`, which says what it is.
"""

from __future__ import annotations

import contextlib
import copyreg
import enum
import functools
import hashlib
import importlib
import pathlib
import struct
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from orch.authoring.functions import JobFunction, find_by_name
from orch.errors import OrchError
from orch.files import DirRef, FileRef
from orch.work import arrays

_SHORT = 32
"""Bytes up to which an encoding holds what it encodes; of more it holds the hash."""

_FEW = 8
"""Parts up to which an object that is met again is encoded again, rather than remembered."""

_DEEP = 8000
"""Calls of Python: enough for what pickle can write. They take half a megabyte of a stack that mostly has eight."""

_MOST_AGAIN = 20_000
"""How often parts of circles are looked at again: where all refer to all, there is no end to the ways through them."""


class Uncacheable(OrchError):
    """A value has no canonical digest, so that nobody can tell whether another one equals it. The message says why."""


def digest(value: Any) -> str:
    """The digest ("sha256:…") of a value. Raises `Uncacheable`."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEP))
    try:
        return f"sha256:{hashlib.sha256(_Encoder().encode(value)).hexdigest()}"
    except Uncacheable:
        raise
    except RecursionError:
        raise Uncacheable("it is nested too deeply") from None
    except Exception as error:  # what user code makes of attributes may raise anything
        raise Uncacheable(f"it cannot be looked at: {type(error).__name__}: {error}") from error
    finally:
        sys.setrecursionlimit(before)


def name_of(found: Any) -> str:
    """The name under which a function or class is imported elsewhere: "module:Outer.name". Raises `Uncacheable`."""
    plain = found.__wrapped__ if isinstance(found, JobFunction) else found
    module, name = getattr(plain, "__module__", None), getattr(plain, "__qualname__", None) or repr(plain)
    if isinstance(module, str) and module not in sys.modules:  # said to be in one that is imported when it is asked for
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    there = find_by_name(module, name) if isinstance(module, str) else None
    if there is not found and there is not plain and getattr(there, "__wrapped__", there) is not plain:
        raise Uncacheable(f"{name} has no name that can be imported: define it at the top of a module")
    return f"{module}:{name}"


class _Encoder:
    """One value, on its way. An encoding is at most some dozens of bytes, and none is the beginning of another."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # objects that are being encoded, and how deep they stand
        self._lowest = sys.maxsize  # the outermost of those that was met again since
        self._known: dict[int, tuple[Any, bytes]] = {}  # the object too, so that its id stays its own
        self._seen = 0
        self._circular: dict[int, Any] = {}  # parts of circles that were encoded, each in its place only
        self._again = 0

    def encode(self, value: Any) -> bytes:
        """A value's encoding. Raises `Uncacheable`."""
        self._seen += 1
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            return leaf(value)
        key = id(value)
        if key in self._known:
            return self._known[key][1]
        if key in self._open:
            self._lowest = min(self._lowest, self._open[key])
            return _leaf(b"^", str(len(self._open) - self._open[key]).encode())
        return self._enter(value, key)

    def count(self, parts: int) -> None:
        """What was encoded just now was as much work as so many parts."""
        self._seen += parts

    def _enter(self, value: Any, key: int) -> bytes:
        """An object with parts. What does not lead back to something around it is the same wherever it stands."""
        if key in self._circular:
            self._again += 1
            if self._again > _MOST_AGAIN:
                raise Uncacheable("too many of its parts refer to each other in circles")
        depth = self._open[key] = len(self._open)
        lowest, self._lowest = self._lowest, sys.maxsize
        before = self._seen
        try:
            encoded = self._parts(value)
        finally:
            del self._open[key]
        if self._lowest < depth:
            self._circular[key] = value
            self._lowest = min(lowest, self._lowest)
            return encoded
        if self._seen - before > _FEW:
            self._known[key] = value, encoded
        self._lowest = lowest
        return encoded

    def _parts(self, value: Any) -> bytes:
        kind = type(value)
        if kind is list or kind is tuple:
            return self._row(b"l" if kind is list else b"t", value)
        if kind is dict:
            return self._pairs(b"d", value.items())
        if isinstance(value, set | frozenset):
            return self._set(value)
        for test, encode in _SPECIAL:
            if test(value):
                return encode(self, value)
        return self._reduced(value)

    def _row(self, tag: bytes, parts: Iterable[Any]) -> bytes:
        return _joined(tag, map(self.encode, parts))

    def _pairs(self, tag: bytes, pairs: Iterable[tuple[Any, Any]]) -> bytes:
        return _joined(tag, sorted(self.encode(key) + self.encode(value) for key, value in pairs))

    def _set(self, value: Any) -> bytes:
        members = _joined(b"s", sorted(map(self.encode, value)))
        state = getattr(value, "__dict__", None) or {}
        return _joined(b"S", (_name(type(value)), members, self._pairs(b"d", state.items())))

    def _reduced(self, value: Any) -> bytes:
        """By the parts of which pickle would make it again."""
        parts = _reduce(value)
        if isinstance(parts, str):  # a name in its module
            return _leaf(b"g", f"{getattr(value, '__module__', '')}:{parts}".encode())
        function, args, state, items, pairs = (*parts, None, None, None)[:5]
        kind = type(value)
        lazy = [name for name in vars(kind) if isinstance(vars(kind)[name], functools.cached_property)]
        if isinstance(state, dict) and lazy:  # computed from the rest, and there only if somebody asked
            state = {name: part for name, part in state.items() if name not in lazy}
        ordered = any(each.__name__ == "OrderedDict" for each in kind.__mro__)
        return _joined(
            b"o",
            (
                self.encode(function),
                self._row(b"t", args),
                self.encode(state),
                self._row(b"l", items or ()),
                self._row(b"l", pairs or ()) if ordered else self._pairs(b"d", pairs or ()),
            ),
        )


def _reduce(value: Any) -> Any:
    kind = type(value)
    try:
        reduce: Callable[[Any], Any] | None = copyreg.dispatch_table.get(kind)
        return reduce(value) if reduce is not None else value.__reduce_ex__(4)  # 5 would lend memory, not give it
    except RecursionError:
        raise
    except Exception as error:  # user code may raise anything
        raise Uncacheable(f"a {kind.__qualname__} cannot be taken apart: {type(error).__name__}: {error}") from error


# Encodings --------------------------------------------------------------------------------------------------------


def _leaf(tag: bytes, data: bytes) -> bytes:
    if len(data) <= _SHORT:
        return tag + bytes((len(data),)) + data
    return tag + b"\xff" + hashlib.sha256(data).digest()


def _joined(tag: bytes, parts: Iterable[bytes]) -> bytes:
    total, count = hashlib.sha256(), 0
    for part in parts:
        total.update(part)
        count += 1
    return tag + count.to_bytes(8, "big") + total.digest()


def _name(found: Any) -> bytes:
    return _leaf(b"n", name_of(found).encode("utf-8", "surrogatepass"))


def _int(value: int) -> bytes:
    return _leaf(b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _float(value: float) -> bytes:
    return _leaf(b"f", struct.pack("!d", value) if value == value else b"nan")  # noqa: PLR0124 - NaN differs from itself


def _text(value: str) -> bytes:
    return _leaf(b"u", value.encode("utf-8", "surrogatepass"))


def _file(value: FileRef | DirRef) -> bytes:
    if not value.digest:
        raise Uncacheable(f"{value.name!r} is a {type(value).__name__} without a digest: it was not made by a store")
    tag = b"D" if isinstance(value, DirRef) else b"X" if value.executable else b"F"
    return _joined(tag, (_text(value.plain_name), _text(value.digest)))


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    type(...): lambda _: b"E",
    type(NotImplemented): lambda _: b"I",
    bool: lambda value: b"1" if value else b"0",
    int: _int,
    float: _float,
    complex: lambda value: b"c" + _float(value.real) + _float(value.imag),
    str: _text,
    bytes: lambda value: _leaf(b"b", value),
    bytearray: lambda value: _leaf(b"B", bytes(value)),
    FileRef: _file,
    DirRef: _file,
    JobFunction: _name,
    types.FunctionType: _name,
    type: _name,
}


# What is not taken apart as pickle would --------------------------------------------------------------------------


def _is_builtin(value: Any) -> bool:
    """A function of C that is no method of an object."""
    return isinstance(value, types.BuiltinFunctionType) and (
        value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    )


def _enum(encoder: _Encoder, value: Any) -> bytes:
    name = value.name  # None for a combination of flags
    return _joined(b"e", (_name(type(value)), encoder.encode(value.value if name is None else name)))


def _path(_encoder: _Encoder, value: Any) -> bytes:
    return _joined(b"p", (_name(type(value)), _text(str(value))))


def _array(encoder: _Encoder, value: Any) -> bytes:
    """An array is as much work as many parts: one that is met again is remembered."""
    encoded = _joined(b"a", map(encoder.encode, arrays.array(value)))
    encoder.count(value.nbytes // _SHORT)
    return encoded


def _masked(encoder: _Encoder, value: Any) -> bytes:
    return _joined(b"m", map(encoder.encode, arrays.masked(value)))


def _scalar(encoder: _Encoder, value: Any) -> bytes:
    return _joined(b"A", map(encoder.encode, arrays.scalar(value)))


_SPECIAL: tuple[tuple[Callable[[Any], bool], Callable[[_Encoder, Any], bytes]], ...] = (
    (lambda value: isinstance(value, type), lambda _, value: _name(value)),  # also with a metaclass
    (_is_builtin, lambda _, value: _name(value)),
    (lambda value: isinstance(value, enum.Enum), _enum),
    (lambda value: isinstance(value, pathlib.PurePath), _path),
    (arrays.is_array, _array),
    (arrays.is_masked, _masked),
    (arrays.is_scalar, _scalar),
)
