"""The live display, by rich. Loaded only when there is a terminal and a run takes a while."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_STYLES = {"  failed": "red", "  warning": "yellow", "  nothing": "yellow", "  running": "cyan"}
BAR = 40
"""Columns of the bar, at most."""

NARROWEST = 8
"""Columns of the bar, at least: where there are fewer, there is none."""


class Screen:
    """Some lines at the bottom of the terminal, drawn over each time; gone at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, lines: list[str], share: float) -> None:
        """Draw."""
        height = max(2, self._console.height - 2)
        self._live.update(
            Group(self._head(lines[0], share), *(_styled(line) for line in lines[1:height])), refresh=True
        )

    def _head(self, counts: str, share: float) -> Table | Text:
        """The bar and the counts. The counts matter: the bar has what they leave, and they are wrapped, never cut."""
        width = min(BAR, self._console.width - len(counts) - 1)
        if width < NARROWEST:
            return Text(counts, overflow="fold")
        head = Table.grid(padding=(0, 1, 0, 0))
        head.add_row(ProgressBar(total=1.0, completed=share, width=width), Text(counts, no_wrap=True))
        return head


def _styled(line: str) -> Text:
    style = next((style for start, style in _STYLES.items() if line.startswith(start)), "")
    return Text(line, style=style, no_wrap=True, overflow="ellipsis")


def display() -> Screen:
    """A screen on stderr."""
    return Screen(Console(stderr=True))
