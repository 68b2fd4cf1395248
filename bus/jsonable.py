"""Values that JSON can hold, so that the same value comes back."""

from __future__ import annotations

import math
from typing import Any

_DEPTH = 64
"""Nesting beyond this is shown, not stored: nobody reads it, and decoders limit it."""


def is_jsonable(value: Any, depth: int = _DEPTH) -> bool:
    """Does `value` come back equal, and of the same type, from JSON?"""
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return bool(-(2**63) <= value < 2**64)  # more is not read back by every JSON library
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return _is_text(value)
    if depth == 0:
        return False
    if kind is list:
        return all(is_jsonable(v, depth - 1) for v in value)
    if kind is dict:
        return all(type(k) is str and _is_text(k) and is_jsonable(v, depth - 1) for k, v in value.items())
    return False


def jsonable(value: Any) -> Any:
    """`value` itself if JSON can hold it; tuples become lists; else its repr, the whole of it, as text.

    For values that users hand over, before they become part of an event. Never raises: a repr that fails is named.
    """
    value = _listed(value, _DEPTH)
    if is_jsonable(value):
        return value
    if type(value) is str:
        return clean_text(value)
    try:
        text = repr(value)
    except Exception as e:  # noqa: BLE001 - a user's __repr__ may do anything
        text = f"<{type(value).__name__}: repr failed: {type(e).__name__}>"
    return clean_text(text)


def clean_text(text: str) -> str:
    """`text` with lone surrogates (undecodable bytes of file names and arguments) written as backslash escapes."""
    if _is_text(text):
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth and (kind is list or kind is tuple):
        return [_listed(v, depth - 1) for v in value]
    if depth and kind is dict:
        return {k: _listed(v, depth - 1) for k, v in value.items()}
    return value
