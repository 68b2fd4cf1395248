"""Text for people: times, and tables as wide as they must be."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence

WIDEST = 48
"""Characters of a cell, at most, except in the last column."""


def clock_time(time: str) -> str:
    """A log's time as the local "HH:MM:SS.mmm"; the text itself where it is none."""
    return _local(time, "%H:%M:%S.%f", cut=3)


def date_time(time: str) -> str:
    """A log's time as the local "YYYY-MM-DD HH:MM:SS"; empty stays empty."""
    return _local(time, "%Y-%m-%d %H:%M:%S")


def _local(time: str, form: str, cut: int = 0) -> str:
    try:
        text = dt.datetime.fromisoformat(time).astimezone().strftime(form)
    except ValueError:
        return time
    return text[:-cut] if cut else text


def one_line(text: str, most: int = 0) -> str:
    """`text` without line breaks and control characters, cut to `most` characters (0: not cut)."""
    flat = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return flat if not most or len(flat) <= most else flat[: most - 1] + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = 0) -> str:
    """Columns side by side; lines are cut at `width` characters (0: not cut)."""
    cells = [[one_line(cell, WIDEST if n < len(row) - 1 else 0) for n, cell in enumerate(row)] for row in rows]
    lines = [list(head), *cells]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    texts = ["  ".join(cell.ljust(widths[n]) for n, cell in enumerate(line)).rstrip() for line in lines]
    return "\n".join(one_line(text, width) if width else text for text in texts)


def terminal_width(*, is_terminal: bool) -> int:
    """Columns of the terminal; 0 where output goes elsewhere and nothing need be cut."""
    return shutil.get_terminal_size((120, 25)).columns if is_terminal else 0
