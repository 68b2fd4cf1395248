"""`orch log`: is a log whole, how to get back what can be got of one that is not, and what is in it for other tools."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from orch.cli.common import find_log, find_store, say, store_hint
from orch.cli.parser import STORE, AsJson, LogLevel, RunId, Store, application, command, words
from orch.cli.usage import UsageError, did_you_mean

if TYPE_CHECKING:
    from orch.bus.lock import RunLock
    from orch.bus.verify import Part
    from orch.logtools.audit import Audit, Repair
    from orch.logtools.named import FileCheck

app = application()

DAMAGED = 4
_SLOW = 10.0
"""Seconds after which it is said how far we are, and again after as many."""

OVERVIEW = """\
usage: orch log verify [OPTIONS] [RUN]   is every line of the log whole, and legal?
       orch log repair [OPTIONS] [RUN]   cut a damaged log back to what is whole
       orch log export [OPTIONS] [RUN]   the events as JSON Lines, or as an SQLite database

The store is --store, else $ORCH_STORE, else ./.orch; orch log verify --help says more."""


def choose(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The sub-command's full name, and what is left of the arguments. Raises `UsageError`; `SystemExit` after help."""
    names = [str(one.name).removeprefix("log ") for one in app.registered_commands]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW)
        raise SystemExit(0)
    name, *rest = arguments
    if name not in names:
        raise UsageError(f"orch log has no command {name!r}{did_you_mean(name, names)}; see: orch log --help")
    return f"log {name}", rest


DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done, and change nothing")]


@command(app, "log verify", "[OPTIONS] [RUN]  |  orch log verify --all [OPTIONS]")
def verify(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    every: Annotated[bool, typer.Option("--all", help="all runs of the store")] = False,
    files: Annotated[bool, typer.Option("--files", help="the files that events name, too")] = False,
    json: AsJson = False,
) -> int:
    """Look at every line of a run's log (default: the newest): is it whole, and could a leader have written it?

    Exits with 4 if anything is wrong, and says where. Works on copied logs, and while the run goes on.
    """
    if every and run is not None:
        raise UsageError(f"orch log verify: give either --all or the run {run}")
    reports = [_verified(directory, name, store, files=files) for directory, name in _logs(store, run, every=every)]
    if json:
        print(_json([report.picture() for report in reports] if every else reports[0].picture()))
    else:
        for report in reports:
            report.print()
    return DAMAGED if any(report.damaged for report in reports) else 0


def _logs(locator: str, run: str | None, *, every: bool) -> list[tuple[Path, str | None]]:
    from orch.store.layout import log_dir
    from orch.store.runs import list_runs

    if not every:
        return [find_log(locator, run)]
    found = find_store(locator)
    return [(found.local_path(log_dir(name)), name) for name in list_runs(found)]


class Report:
    """What `verify` has to say of one log."""

    def __init__(self, audit: Audit, name: str, check: FileCheck | None, hint: str) -> None:
        self.audit = audit
        self.name = name
        self.check = check
        self._hint = hint
        self.damaged = not audit.whole or bool(check and check.gone)

    @property
    def _copy_of(self) -> str:
        """The run whose log was copied to this name; empty if it is none."""
        return self.audit.run if self.audit.run != self.name else ""

    def picture(self) -> dict[str, Any]:
        """As JSON has it."""
        found = self.audit.found
        files = None
        if self.check is not None:
            files = {"count": self.check.count, "gone": self.check.gone, "unsynced": self.check.unsynced}
        return {
            "run": self.name,
            "copy_of": self._copy_of,
            "log": self.audit.directory,
            "whole": not self.damaged,
            "events": self.audit.end.seq if self.audit.end else 0,
            "problems": found.problems,
            "more_problems": found.more,
            "segments": [found.parts[epoch] for epoch in sorted(found.parts)],
            "files": files,
        }

    def print(self) -> None:
        """On stdout: it is the result."""
        found = self.audit.found
        for problem in found.problems:
            print(problem)
        if found.more:
            print(f"{self.audit.directory}: {found.more:,} more lines like these")
        for gone in (*self.check.gone, *self.check.unsynced) if self.check else ():
            print(f"{gone.path}: event {gone.seq} names it: it {gone.why}")
        print(f"run {self.name}: {self._verdict()}")
        if self._copy_of:
            print(f"  this is a copy of run {self._copy_of}: it can be looked at, and not carried on")
        for epoch in sorted(found.parts):
            for note in notes(found.parts[epoch]):
                print(f"  {note}")

    def _verdict(self) -> str:
        found, end = self.audit.found, self.audit.end
        segments = sum(part.kind == "log" for part in found.parts.values())
        text = f"{_many(end.seq if end else 0, 'event')} in {_many(segments, 'segment')}, all whole"
        if not self.audit.whole:
            wrong = _many(len(found.problems) + found.more, "problem")
            mend = f"see: orch log repair {self.name}{self._hint} --dry-run"
            text = f"damaged: {wrong}; whole and legal up to event {end.seq if end else 0}; {mend}"
        if self.check is not None:
            text += f"; {_many(self.check.count, 'file')}, "
            text += f"{len(self.check.gone)} of them not as they should be" if self.check.gone else "none is missing"
        return text


def notes(part: Part) -> Iterator[str]:
    """What is unusual about a segment, and no damage."""
    name = part.path.name
    if part.kind == "claim":
        yield f"{name}: a claim whose leader wrote nothing whole ({_many(part.void, 'byte')}): it counts for nothing"
    elif part.kind == "void":
        yield f"{name}: void ({_many(part.void, 'byte')}): its leader was superseded before it had begun"
    elif part.void:
        yield f"{name}: {_many(part.void, 'byte')} at its end are void: written after another leader had taken over"
    elif part.torn:
        yield f"{name}: the last {_many(part.torn, 'byte')} are a group that is not whole: torn, or being written"


def _verified(directory: Path, name: str | None, locator: str, *, files: bool) -> Report:
    from orch.logtools.audit import Audit
    from orch.logtools.named import FileCheck

    if files and name is None and directory.name != "log":
        raise UsageError(f"orch log verify: --files needs the directory of the run, and {directory} is its log alone")
    run = name or _run_of(directory)
    check = FileCheck(directory.parent, run) if files else None
    audit = Audit(directory)
    with _progress("verified") as progress:
        audit.look(progress, check or (lambda _: None))
    return Report(audit, run, check, store_hint(locator) if name else "")


def _run_of(directory: Path) -> str:
    """The id of the run whose log has been copied, from its first lines."""
    from orch.bus.events import Opened
    from orch.bus.reader import read

    first = next(read(directory, strict=False, to_seq=1), None)
    return first.run if isinstance(first, Opened) else "?"


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()  # paths are text


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


@contextlib.contextmanager
def _progress(done: str) -> Iterator[Callable[[int], None]]:
    """Say now and then how far we are, if it takes long."""
    due = time.monotonic() + _SLOW

    def at(seq: int) -> None:
        nonlocal due
        if time.monotonic() > due:
            say(f"{done} {seq:,} events so far")
            due = time.monotonic() + _SLOW

    yield at


# Repair ----------------------------------------------------------------------------------------------------------


@command(app, "log repair", "[OPTIONS] [RUN]")
def repair(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    dry_run: DryRun = False,
    json: AsJson = False,
) -> int:
    """Cut the damaged log of a run (default: the newest) back to what is whole and legal; a whole one is left alone.

    What is changed is copied aside before. Nothing is asked; --dry-run says what would be done.
    """
    from orch.logtools.audit import mend

    directory, name = find_log(store, run)
    lock = _lock(directory, name)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    if lock is not None:
        lock.acquire()
    try:
        with _progress("looked at") as progress:
            done = mend(directory, stamp, dry_run=dry_run, progress=progress)
    finally:
        if lock is not None:
            lock.release()
    found = name or done.audit.run or _run_of(directory)
    if json:
        print(_json(_picture(done, found, directory)))
    else:
        _tell(done, found, f"{found}{store_hint(store)}" if name else "")
    return 0


def _lock(directory: Path, name: str | None) -> RunLock | None:
    """The run's lock; a copied log without one has no leader."""
    from orch.bus.lock import RunLock

    path = directory.parent / "lock"
    return RunLock(path) if name is not None or path.exists() else None


def _picture(done: Repair, run: str, directory: Path) -> dict[str, Any]:
    return {
        "run": run,
        "log": directory,
        "whole": done.audit.whole,
        "kept": done.kept,
        "lost": done.lost,
        "changed": done.changed,
        "aside": done.aside,
        "problems": done.audit.found.problems,
    }


def _tell(done: Repair, run: str, again: str) -> None:
    if done.lost is None:
        print(f"run {run}: {_many(done.kept, 'event')}, all whole; nothing was changed")
        return
    lost, acted = done.lost, done.aside is not None
    print(f"the first damage is at {done.audit.found.problems[0]}")
    dark = f", and {_many(lost.unreadable, 'line')} that cannot be read" if lost.unreadable else ""
    gone = f"events {lost.first:,} to {lost.last:,}{dark}" if lost.last >= lost.first else dark.removeprefix(", and ")
    verb = "would be" if not acted else "is" if done.kept == 1 else "are"
    print(f"run {run}: {_many(done.kept, 'event')} {verb} kept; lost: {gone or 'no event'}")
    print(_results(done, again))
    for path in done.changed:
        print(f"  {path.name} {'was' if acted else 'would be'} {'emptied' if path != done.shortened else 'shortened'}")
    if done.aside is not None:
        print(f"what it was is in {done.aside}")


def _results(done: Repair, again: str) -> str:
    """What it means for the run."""
    assert done.lost is not None
    assert done.state is not None
    jobs = done.lost.results
    if done.state.planned is None:
        return "the first jobs of the run are not all there: it cannot be carried on; begin it anew with orch run"
    on = f" with orch replay {again} --restart" if again else ""
    if not jobs:
        return f"no result that can still be read is lost; the run can be carried on{on}"
    some = ", ".join(map(str, jobs[:10])) + (f" and {len(jobs) - 10} more" if len(jobs) > 10 else "")
    least = "at least " if done.lost.unreadable else ""
    return f"lost results: {least}{_many(len(jobs), 'job')} ({some}); they run again when the run is carried on{on}"


# Export ----------------------------------------------------------------------------------------------------------

_FORMATS = ("json", "sqlite")


@command(app, "log export", "[OPTIONS] [RUN]")
def export(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    form: Annotated[
        str, typer.Option("--format", metavar="json|sqlite", help="JSON Lines, or a database", **words(_FORMATS))
    ] = "json",
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", show_default=False, help="write to FILE, at once or not at all"),
    ] = "",
) -> int:
    """The events of a run (default: the newest) for other tools, with all their fields.

    JSON Lines go to stdout unless there is a FILE, a database needs one. What FILE was before is replaced at the end.
    """
    from orch.logtools.export import in_place, write_json

    if form == "sqlite" and not output:
        raise UsageError("orch log export: a database is a file: name it with --output FILE")
    directory, _ = find_log(store, run)
    with _progress("exported") as progress:
        if not output:
            write_json(directory, sys.stdout, progress)
            return 0
        with in_place(Path(output)) as temporary:
            if form == "sqlite":
                _database()(directory, temporary, progress)
            else:
                with temporary.open("w", encoding="utf-8") as file:
                    write_json(directory, file, progress)
    return 0


def _database() -> Callable[[Path, Path, Callable[[int], None]], None]:
    try:
        from orch.logtools.database import write_database
    except ImportError as error:  # some interpreters are built without it
        raise UsageError(f"orch log export: this Python has no SQLite ({error}); use --format json") from error
    return write_database
