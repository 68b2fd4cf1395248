"""What an array or a scalar of numpy is, by what it holds and not by how that lies in memory: parts to be encoded.

Type, dtype and shape count. Strides, the orders of elements and of bytes (numpy's own pickles do not keep that), what
lies between the fields of a structure or behind the ten bytes of a long double, and the bits of a NaN do not.

Used only where user code has imported numpy.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
from typing import Any

_AT_ONCE = 1 << 20
"""Bytes that are looked at, and hashed, at once: they stay in the processor's cache."""

_OWN = 256
"""Numbers of dtypes from here on are not numpy's first ones: their short name may not say all about them."""

_EXTENDED = 63
"""Bits of the mantissa of the x87's long double, of which ten bytes of sixteen (or twelve) mean something."""


def is_array(value: Any) -> bool:
    """An array that pickle takes for one; a subclass that tells pickle something else is taken apart as it says."""
    numpy = _numpy()
    return numpy is not None and isinstance(value, numpy.ndarray) and _pickled_as(type(value), numpy.ndarray)


def is_masked(value: Any) -> bool:
    """A masked array; subclasses as for `is_array`."""
    masked: Any = sys.modules.get("numpy.ma")
    return (
        masked is not None
        and isinstance(value, masked.MaskedArray)
        and type(value).__reduce__ is masked.MaskedArray.__reduce__
    )


def is_scalar(value: Any) -> bool:
    """An element of an array, on its own."""
    numpy = _numpy()
    return numpy is not None and isinstance(value, numpy.generic) and type(value) is value.dtype.type


def array(value: Any) -> tuple[Any, ...]:
    """Type, dtype, shape, and what it holds: a hash, a list of objects, or a list of the arrays of its fields."""
    return type(value), _dtype(value.dtype), value.shape, _content(_numpy().asarray(value))


def masked(value: Any) -> tuple[Any, ...]:
    """What is below the mask counts: anybody can look at it. Whether the fill value was asked for before does not."""
    masked_arrays: Any = sys.modules["numpy.ma"]
    return type(value), value.data, masked_arrays.getmaskarray(value), value.fill_value


def scalar(value: Any) -> tuple[Any, ...]:
    """Type, dtype, and what it holds."""
    if value.dtype.kind in "biumMSU":  # as most are: all bytes count
        little = _little(value.dtype)
        return little.str, value.astype(little).tobytes()
    return _dtype(value.dtype), _content(_numpy().asarray(value))


def _numpy() -> Any:
    return sys.modules.get("numpy")


def _pickled_as(kind: type, base: type) -> bool:
    """Does pickle treat both alike?"""
    return (
        kind.__reduce__ is base.__reduce__
        and kind.__reduce_ex__ is base.__reduce_ex__
        and kind not in copyreg.dispatch_table
    )


def _little(dtype: Any) -> Any:
    return dtype.newbyteorder("<") if dtype.num < _OWN else dtype


def _dtype(dtype: Any) -> Any:
    """Its short name where that says all, or else itself."""
    simple = dtype.num < _OWN and dtype.kind != "V" and dtype.metadata is None
    return _little(dtype).str if simple else _little(dtype)


def _content(value: Any) -> Any:
    dtype = value.dtype
    if dtype.names is not None:
        return [(name, value[name]) for name in dtype.names]
    if dtype.hasobject:
        return value.ravel().tolist()
    flat = _numpy().ascontiguousarray(value, _little(dtype)).reshape(-1)
    total = hashlib.sha256()
    step = max(_AT_ONCE // max(dtype.itemsize, 1), 1)
    for start in range(0, len(flat) if dtype.itemsize else 0, step):
        total.update(_bytes(flat[start : start + step]))
    return total.digest()


def _bytes(flat: Any) -> Any:
    """The bytes of some elements, all NaNs the same, without what means nothing."""
    numpy = _numpy()
    if flat.dtype.num < _OWN and flat.dtype.kind in "fc":
        flat = flat.view(flat.real.dtype)
        nans = numpy.isnan(flat)
        if nans.any():
            flat = flat.copy()
            flat[nans] = numpy.nan
        size = flat.dtype.itemsize
        if size > 10 and numpy.finfo(flat.dtype).nmant == _EXTENDED:
            return flat.view(numpy.uint8).reshape(-1, size)[:, :10].tobytes()
    return flat.view(numpy.uint8)
