"""Making a reproduction: a directory with all that a job's attempt needs to run again, copied out of a run.

    attempt.json    the attempt as it was handed over: body, values, resources
    store/          a store with the code's bundle, and the files and large values that the job may read; what the job
                    writes goes there
    run.py          runs it: `python run.py`, in any environment that has orch and what the code imports
    README.md       says what it is

Nothing of the run is changed: its log and store are only read. `orch.reproduction` is what runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from orch.attempt import Attempt
from orch.bus import events as ev
from orch.bus.reader import read
from orch.errors import NoSuchJob, UserError
from orch.history import EventReader
from orch.leader.settings import from_log
from orch.leader.supply import Supply
from orch.reproduction import ATTEMPT, STORE
from orch.state.decide import attempt_key
from orch.state.model import Job, State
from orch.state.status import explain
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore
from orch.store.layout import bundle_dir, log_dir
from orch.store.private import open_private
from orch.work.manifest import read_manifest

_FILE = re.compile(rb"runs/[A-Za-z0-9][A-Za-z0-9._-]*/files/\d{3,}/\d+\.\d+/\d+(?=/)")
"""A path in a pickle, a text or JSON, up to the name of the file: the directory has nothing else in it."""


class Reproduction(msgspec.Struct, frozen=True):
    """What was put together in a directory, and what is to be said of it. `missing`: files that are not there."""

    attempt: Attempt
    warnings: list[str]
    missing: list[str] = []


def reproduce(store: FileStore, state: State, row: Job, to: Path, attempt: int | None = None) -> Reproduction:
    """Put into the directory `to`, which exists, what the job's attempt needs (default: its latest).

    Raises `UserError` for a job that has no body or whose inputs are not known yet, `NoSuchJob` for an attempt that
    there has not been, `StoreError`.
    """
    assert state.created is not None
    _check(state, row, attempt)
    directory = store.local_path(log_dir(state.created.run))
    made = _attempt(state, row, directory, attempt)
    copy = FileStore(to / STORE)
    copy.create()
    missing = list(_copy_values(store, copy, made))
    gone = [f"a file that the job may read is not in the store any more: {path}" for path in missing]
    warnings = [*gone, *_copy_code(store, copy, made), *_stale(state, made)]
    (to / ATTEMPT).write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    (to / "run.py").write_text(RUN, encoding="utf-8")
    (to / "README.md").write_text(_readme(made, warnings), encoding="utf-8")
    return Reproduction(made, warnings, missing)


def _check(state: State, row: Job, attempt: int | None) -> None:
    if row.form == "group":
        raise UserError(f"job {row.label} has no body: it only holds other jobs together")
    if attempt is not None and attempt > row.attempt:
        had = f"{row.attempt} attempt{'' if row.attempt == 1 else 's'}"
        raise NoSuchJob(f"job {row.label} has had {had}; there is no attempt {attempt}")
    unknown = [one.label for one in _inputs(state, row) if not one.value_seq or one.alias]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UserError(
            f"job {row.label} cannot run yet, it is {row.state}: the values of {', '.join(unknown[:3])}{more} are not "
            f"known; {explain(state, row)}"
        )


def _inputs(state: State, row: Job) -> Iterator[Job]:
    """The jobs whose values it takes, and those whose values stand in these."""
    seen: set[int] = set()
    waiting = list(row.needs)
    while waiting:
        job = waiting.pop()
        if job not in seen:
            seen.add(job)
            yield state.row(job)
            waiting.extend(state.row(job).refs)


def _attempt(state: State, row: Job, directory: Path, attempt: int | None) -> Attempt:
    """As the leader hands it over, but that it is no survey, no link of a chain, and not to be killed."""
    assert state.created is not None
    made = Supply(EventReader(directory)).attempt(
        state, row, state.created.cwd, from_log(state.created.settings).max_log
    )
    number = attempt or max(row.attempt, 1)
    bundle = made.bundle
    if attempt is not None and bundle:
        bundle = _bundle_of(read(directory), row.id, attempt)
    key = attempt_key(made.run, row.id, number)
    return msgspec.structs.replace(
        made, key=key, attempt=number, bundle=bundle, survey=False, after="", doom=0.0, resources=row.resources
    )


def _bundle_of(events: Iterable[ev.Event], job: int, attempt: int) -> str:
    """The code that an attempt ran with: a restart may have brought another."""
    bundle = ""
    for event in events:
        if isinstance(event, ev.Created | ev.Recoded):
            bundle = event.bundle
        elif isinstance(event, ev.Submitting) and (event.job, event.attempt) == (job, attempt):
            break
    return bundle


# Copies -----------------------------------------------------------------------------------------------------------


def _copy_values(store: FileStore, copy: FileStore, made: Attempt) -> Iterator[str]:
    """The body and values that are files, and the files that are named in any of them. Gives those that are missing."""
    wanted: set[str] = set()
    for blob in (made.body, *(value.blob for value in made.values.values())):
        data = blob_bytes(store, blob)
        wanted |= {path.decode() for path in _FILE.findall(data)}
        if blob.file:
            copy.write_bytes(blob.file, data, sync=False)
    for path in sorted(wanted):
        source = store.local_path(path)
        if source.is_dir():
            shutil.copytree(source, copy.local_path(path), dirs_exist_ok=True)
        else:
            yield path


def _copy_code(store: FileStore, copy: FileStore, made: Attempt) -> Iterator[str]:
    if not made.bundle:
        return
    source = store.local_path(bundle_dir(made.bundle))
    if not source.is_dir():
        raise UserError(f"the code of the run is not in the store any more: {source}")
    shutil.copytree(source, copy.local_path(bundle_dir(made.bundle)))
    elsewhere = [path for path in read_manifest(str(source)).paths if os.path.isabs(path)]
    if elsewhere:
        yield f"the code was not copied when the run began: it is read from {', '.join(elsewhere)}, as it is now"


def _stale(state: State, made: Attempt) -> Iterator[str]:
    services = [state.jobs[job].label for job in made.values if job in state.jobs and state.jobs[job].form == "service"]
    if services:
        yield f"the credentials of {', '.join(services)} may be stale: the service is not started here"


# What lies beside --------------------------------------------------------------------------------------------------

RUN = '''"""Runs the job of this directory again. `--pdb` stops at its first line, and where it raises."""

import sys
from pathlib import Path

from orch.reproduction import run_reproduction

if __name__ == "__main__":
    sys.exit(run_reproduction(Path(__file__).resolve().parent, pdb="--pdb" in sys.argv[1:]))
'''


def _readme(made: Attempt, warnings: list[str]) -> str:
    name = made.name or made.kind
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    notes = "".join(f"- {warning}\n" for warning in warnings)
    return (
        f"""# Job {name} [{made.job}] of run {made.run}, attempt {made.attempt}

A reproduction: the job's code, its body, the values that it needs and the files that these name.

    python run.py          run it; what it returns is printed
    python run.py --pdb    with a debugger

It needs Python {python}, orch, and the packages that the code imports. Those are not in here, and neither is the
environment of the run. What the job writes goes to `store/` here.

{"Note:" if notes else ""}
{notes}""".rstrip()
        + "\n"
    )


def command(directory: Path, *, pdb: bool) -> list[str]:
    """The program that runs the reproduction in a directory."""
    return [sys.executable, "-P", "-m", "orch.reproduction", str(directory), *(["--pdb"] if pdb else [])]


def pack(directory: Path, target: Path, name: str) -> None:
    """The reproduction as a tar archive, in a folder `name`; there as a whole or not at all. Raises `UserError`."""
    import tarfile

    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")

    def plain(member: tarfile.TarInfo) -> Any:
        member.uname = member.gname = ""
        member.uid = member.gid = 0
        return member

    try:
        with (
            open(temporary, "wb", opener=open_private) as file,  # values may be confidential
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            archive.add(directory, arcname=name, filter=plain)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
