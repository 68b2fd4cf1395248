"""`orch stats`: what the jobs of a run used, asked for and wasted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orch.bus.reader import read
from orch.cli.common import find_log, harmless
from orch.cli.parser import STORE, AsJson, LogLevel, RunId, Store, application, command, words
from orch.cli.render import one_line
from orch.cli.summary import as_json
from orch.sizes import format_duration, format_size

if TYPE_CHECKING:
    from orch.statistics import Group, Spread, Statistics, Waste

BY = ("kind", "worker")
SORT = ("name", "jobs", "attempts", "time", "cpu", "wait", "memory", "disk", "wasted")
_NAME = 22
_COLUMNS = ("MIN", "MEDIAN", "MEAN", "MAX", "TOTAL", "ASKED")

app = application()


@command(app, "stats", "[OPTIONS] [RUN]")
def stats(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    json: AsJson = False,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            show_default=False,
            help="only one table: kind, worker (default: both)",
            **words(BY),
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="FIELD",
            show_default=False,
            help=f"the largest first, by {', '.join(SORT[1:])}; or by name (default)",
            **words(SORT),
        ),
    ] = "name",
) -> int:
    """What the jobs of a run used, asked for and wasted: all of them, by kind, and by worker."""
    from orch.statistics import Statistics, sorted_groups, statistics

    directory, _ = find_log(store, run)
    found = statistics(read(directory))
    kinds, workers = sorted_groups(found.kinds, sort), sorted_groups(found.workers, sort)
    if json:
        print(as_json(Statistics(found.run, found.live, found.total, kinds, workers)))
        return 0
    tables = {"kind": kinds, "worker": workers}
    lines = [_headline(found), "", *_table("RUN", [found.total])]
    for what in [by] if by else BY:
        if tables[what]:
            lines += ["", *_table(what.upper(), tables[what])]
    print("\n".join(map(harmless, lines)))
    return 0


def _headline(found: Statistics) -> str:
    total = found.total
    ends = ", ".join(f"{count} {end}" for end, count in total.ends.items())
    live = f"; {found.live} more are live" if found.live else ""
    return f"run {found.run}: {total.jobs} jobs, {total.attempts} attempts{f': {ends}' if ends else ''}{live}"


def _table(title: str, groups: list[Group]) -> Iterator[str]:
    """A block of lines for each group: what was measured, asked for and wasted."""
    yield f"{title:<{_NAME}} {'TRIES':>7}  {'':<6}" + "".join(f" {column:>9}" for column in _COLUMNS)
    for group in groups:
        yield from _block(group, group.name or ("all" if title == "RUN" else "(not known)"))


def _block(group: Group, name: str) -> Iterator[str]:
    asked = {"cpu": format_duration(group.asked.core_seconds)} if group.asked.core_seconds else {}
    asked |= {what: format_size(round(size)) for what, size in
              (("memory", group.asked.memory), ("disk", group.asked.disk)) if size}  # fmt: skip
    heads = itertools.chain([f"{one_line(name, _NAME):<{_NAME}} {group.attempts:>7}"], itertools.repeat(" " * 30))
    measures = {what: getattr(group, what) for what in ("time", "cpu", "wait", "memory", "disk")}
    for what, found in measures.items():
        if found.count:
            cells = [*_cells(what, found), asked.get(what, "")]
            yield (f"{next(heads)}  {what:<6}" + "".join(f" {cell:>9}" for cell in cells)).rstrip()
    if not group.time.count:
        yield next(heads)
    for title, wasted in zip(("wasted", ""), _wasted(group.wasted), strict=False):
        yield f"{next(heads)}  {title:<6}  {wasted}"


def _cells(what: str, found: Spread) -> list[str]:
    numbers = [found.min, found.median, found.mean, found.max, found.total]
    if what in ("memory", "disk"):
        return [format_size(round(number)) for number in numbers]
    return [format_duration(number) for number in numbers]


def _wasted(waste: Waste) -> list[str]:
    """A line for cores and one for bytes; none where nothing is to be said."""
    attempts = f"{waste.attempts} attempt{'s' if waste.attempts > 1 else ''}"
    cores = [
        f"{format_duration(waste.core_seconds)} of cores by {attempts} in vain" if waste.attempts else "",
        f"{format_duration(waste.idle_core_seconds)} of cores idle" if waste.idle_core_seconds >= 1 else "",
    ]
    sizes = [
        f"{format_size(round(size))} of {what}"
        for what, size in (("memory", waste.memory), ("disk", waste.disk))
        if size
    ]
    return [line for parts in (cores, sizes) if (line := ", ".join(filter(None, parts)))]
