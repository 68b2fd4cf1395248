"""A user's traceback, shortened to their own code, with files named as they know them."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback

from orch.errors import OrchError

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_FROZEN = "<frozen "

_renamed: dict[str, str] = {}


def rename_files(directory: str, original: str) -> None:
    """Files below `directory` (a bundle) are to be shown as those below `original`."""
    _renamed[directory.rstrip("/") + "/"] = original.rstrip("/") + "/"


def shown_name(file: str) -> str:
    """The name under which the user knows a source file."""
    for directory, original in _renamed.items():
        if file.startswith(directory):
            return original + file[len(directory) :]
    return file


def short_trace(error: BaseException) -> str:
    """The traceback as text: no frames of ours; of libraries only the last, where the exception was raised.

    An error of ours that no line of the user's has led to is its message only.
    """
    report = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    _shorten(report)
    if isinstance(error, OrchError) and not report.stack:
        return str(error)
    return "".join(report.format()).rstrip("\n")


def headline(error: BaseException) -> str:
    """One line: "ValueError: bad header"."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - user code
        text = "(its text cannot be made)"
    name = type(error).__name__
    first, _, rest = text.strip().partition("\n")
    return f"{name}: {first}{' …' if rest else ''}" if first else name


def _shorten(report: traceback.TracebackException) -> None:
    waiting, seen = [report], {id(report)}
    while waiting:
        current = waiting.pop()
        current.stack = _user_frames(current.stack)
        for other in (current.__cause__, current.__context__, *(getattr(current, "exceptions", None) or ())):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
        file = getattr(current, "filename", None)  # of a SyntaxError
        if file:
            current.filename = shown_name(file)


def _user_frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    frames = [frame for frame in stack if not _is_ours(frame.filename)]
    kept = [frame for index, frame in enumerate(frames) if _is_user(frame.filename) or index == len(frames) - 1]
    return traceback.StackSummary.from_list(
        traceback.FrameSummary(shown_name(frame.filename), frame.lineno, frame.name, line=frame.line) for frame in kept
    )


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, _FROZEN))


def _is_user(file: str) -> bool:
    return not _is_ours(file) and not file.startswith(_library())


@functools.cache
def _library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    return tuple(f"{name}{os.sep}" for name in names | {os.path.dirname(os.__file__)})
