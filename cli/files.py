"""`orch files`: what the jobs of a run wrote to the store; copies of it, if wanted."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from orch.bus import events as ev
from orch.bus.reader import read
from orch.cli.common import find_run, find_store, say
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command
from orch.cli.render import table, terminal_width
from orch.cli.summary import as_json
from orch.cli.usage import UsageError
from orch.errors import UserError
from orch.files import DirRef, FileRef
from orch.hints import store_option
from orch.sizes import format_size
from orch.store.file import FileStore
from orch.store.layout import log_dir

app = application()


class Written(msgspec.Struct, frozen=True):
    """A file or directory that a job wrote (job 0: the workflow function). Paths are relative to the store.

    `state`  kept; removed: nobody could need it any more, it was written to be kept for a while; missing: it is not
             there, and should be
    `reused`: the job did not write it, it has come with the value of an earlier call
    `to`     where it was copied to
    """

    job: int
    job_name: str
    name: str
    path: str
    size: int
    digest: str
    directory: bool
    state: str
    reused: bool = False
    to: str = ""


@command(app, "files", "[OPTIONS] [RUN]")
def files(
    run: RunId = None,
    *,
    locator: Store = STORE,
    _level: LogLevel = "warning",
    json: Annotated[bool, typer.Option("--json", help="one JSON array of files")] = False,
    fetch: Annotated[
        str | None,
        typer.Option(
            "--fetch", metavar="GLOB", help="copy those whose name, JOB/NAME or path in the store is like this"
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="with --fetch: the directory, made if it is not there")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="with --fetch: replace files that are there")] = False,
) -> int:
    """What the jobs of a run wrote to the store. With --fetch, it is copied out."""
    if (fetch is None) != (to is None):
        raise UsageError("orch files: --fetch and --to go together: orch files --fetch '*.txt' --to DIR")
    if force and fetch is None:
        raise UsageError("orch files: --force goes with --fetch")
    store = find_store(locator)
    name = find_run(store, run)
    found = list(_looked_up(store, written(read(store.local_path(log_dir(name))))))
    if fetch is not None and to is not None:
        found = _fetch(store, name, found, fetch, Path(to).absolute(), force=force)
    if json:
        print(as_json(found))
    elif fetch is not None:
        print("\n".join(file.to for file in found))
    elif found:
        print(_table(found))
    else:
        say(f"the jobs of run {name} have written no files to the store")
    return 0


def written(events: Iterable[ev.Event]) -> list[Written]:
    """Files of attempts that count, in the order in which they were committed."""
    names = {0: "the workflow"}
    found: dict[tuple[int, str], Written] = {}
    for event in events:
        if isinstance(event, ev.Added):
            names[event.job] = event.name or event.kind
        elif isinstance(event, ev.Planned | ev.Succeeded | ev.Reused):
            job = 0 if isinstance(event, ev.Planned) else event.job
            for file in event.files:
                found[job, file.path] = _written(job, names[job], file, reused=isinstance(event, ev.Reused))
        elif isinstance(event, ev.Removed):
            for path in event.files:
                if (event.job, path) in found:
                    gone = msgspec.structs.replace(found[event.job, path], state="removed")
                    found[event.job, path] = gone
    return list(found.values())


def _written(job: int, name: str, file: ev.StoredFile, *, reused: bool) -> Written:
    last = file.path.rpartition("/")[2]
    return Written(job, name, last, file.path, file.size, file.digest, file.directory, "kept", reused)


def _looked_up(store: FileStore, found: Iterable[Written]) -> Iterator[Written]:
    """The same, with those marked that are not there."""
    for file in found:
        missing = file.state == "kept" and not store.exists(file.path)
        yield msgspec.structs.replace(file, state="missing") if missing else file


def _table(found: list[Written]) -> str:
    head = ["JOB", "NAME", "FILE", "SIZE", "STATE", "PATH"]
    lines = [
        [
            str(file.job),
            file.job_name,
            file.name + ("/" if file.directory else ""),
            format_size(file.size),
            f"{file.state}, reused" if file.reused else file.state,
            file.path,
        ]
        for file in found
    ]
    return table(head, lines, width=terminal_width(is_terminal=sys.stdout.isatty()))


# Copies -----------------------------------------------------------------------------------------------------------


def _fetch(store: FileStore, run: str, found: list[Written], glob: str, to: Path, *, force: bool) -> list[Written]:
    """Copy what matches, each whole or not at all; nothing if something is in the way. Raises `UserError`."""
    from orch.work.transfer import export

    matching = [file for file in found if any(fnmatchcase(text, glob) for text in _texts(file))]
    wanted = [file for file in matching if file.state == "kept"]
    for file in matching:
        if file.state != "kept":
            say(f"{file.name} of job {file.job_name} [{file.job}] is not copied: it is {file.state}")
    if not wanted:
        see = f"orch files {run}{store_option(store)}"
        raise UserError(f"run {run} has no file {'any more ' if matching else ''}that is like {glob!r}; see: {see}")
    targets = [msgspec.structs.replace(file, to=str(to / name)) for file, name in _named(wanted)]
    _refuse_to_overwrite(targets, force=force)
    for file in targets:
        export(store.local_path(file.path), _reference(file), file.to)
    return targets


def _texts(file: Written) -> tuple[str, ...]:
    return file.name, f"{file.job}/{file.name}", file.path


def _named(wanted: list[Written]) -> Iterator[tuple[Written, str]]:
    """Each file with the name of its copy: its own, and the job's number in it where several have the same."""
    same = Counter(file.name for file in wanted)
    taken = {name for name, count in same.items() if count == 1}
    for file in wanted:
        if same[file.name] == 1:
            yield file, file.name
            continue
        stem, suffix = os.path.splitext(file.name)
        name, number = f"{stem}-{file.job}{suffix}", 2
        while name in taken:
            name, number = f"{stem}-{file.job}-{number}{suffix}", number + 1
        taken.add(name)
        yield file, name


def _refuse_to_overwrite(targets: list[Written], *, force: bool) -> None:
    there = [file.to for file in targets if os.path.isdir(file.to) or (not force and os.path.lexists(file.to))]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        hint = "a directory is not replaced: remove it first" if os.path.isdir(there[0]) else "--force replaces it"
        raise UserError(f"nothing was copied: {there[0]}{more} exists already; {hint}")


def _reference(file: Written) -> FileRef | DirRef:
    kind = DirRef if file.directory else FileRef
    return kind(name=file.name, path=file.path, size=file.size, digest=file.digest)
