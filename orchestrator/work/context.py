"""`orch.context()`: what a running job can ask and say.

There is one context a process, and not a context variable, so that threads started by user code see it. Only where an
attempt runs in a thread beside others has that thread one of its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

import msgspec

from orch.attempt import Note, Place
from orch.bus.events import INLINE_LIMIT, Blob, Resources, StoredFile
from orch.bus.jsonable import clean_text, jsonable
from orch.errors import JobError, StoreError, UserError
from orch.files import DirRef, FileRef
from orch.store.layout import files_dir, value_file
from orch.store.tree import STAGED

if TYPE_CHECKING:
    from orch.store.file import FileStore
    from orch.work.deferred import Deferred
    from orch.work.staging import Print

T = TypeVar("T")

LEVELS = ("debug", "info", "warning", "error", "critical")

_current: Context | None = None
_aside: dict[int, Context] = {}
"""Of attempts that run in threads beside others, by thread."""


class Who(msgspec.Struct, frozen=True, gc=False):
    """Which attempt this is, and how many before it were surveys. The workflow function is attempt 1 of job 0."""

    key: str
    run: str
    job: int
    attempt: int
    label: str
    surveys: int = 0
    resources: Resources = Resources()
    max_log: int = 16 * 1024 * 1024
    bundle: str = ""
    cwd: str = ""
    form: str = ""


class Context:
    """The running job's view of the world. Get it with `orch.context()`."""

    def __init__(
        self,
        who: Who,
        place: Place,
        scratch: str,
        emit: Callable[[Note], None],
        *,
        stop_signal: int = -1,
        aside: bool = False,
    ) -> None:
        self.who = who
        self.files: list[StoredFile] = []
        self.stop_signal = stop_signal
        self.aside = aside
        self._place = place
        self._scratch = scratch
        self._emit = emit
        self._store: FileStore | None = None
        self._deferred: Deferred | None = None
        self._staged: dict[str, tuple[Path, Print]] = {}

    def __enter__(self) -> Self:
        global _current  # noqa: PLW0603 - see above
        if self.aside:
            _aside[_thread()] = self
        else:
            _current = self
        return self

    def __exit__(self, *_error: object) -> None:
        global _current  # noqa: PLW0603 - the one context of this process
        if self.aside:
            del _aside[_thread()]
        else:
            _current = None
        if self._deferred is not None:
            self._deferred.close()

    def __repr__(self) -> str:
        return f"<context of {self.who.label}, attempt {self.who.attempt}>"

    # Who and where ----------------------------------------------------------------------------------------------

    @property
    def job_id(self) -> str:
        """Id of the job, as in `orch.replay`."""
        return str(self.who.job)

    @property
    def attempt(self) -> int:
        """How often the body has been begun, this time included. Surveys do not count, unlike in `orch status`."""
        return self.who.attempt - self.who.surveys

    @property
    def resources(self) -> Resources:
        """What this attempt was given: cores, memory and disk in bytes, walltime in seconds."""
        return self.who.resources

    @property
    def scratch(self) -> Path:
        """A directory of this attempt alone, removed at its end. Also `$TMPDIR`."""
        return Path(self._scratch)

    # Files --------------------------------------------------------------------------------------------------------

    def write_file(self, path: str | os.PathLike[str], keep: str | None = None) -> FileRef:
        """Copy a file (relative paths: to the current directory) into the store. Raises `JobError`.

        It is kept as long as the run; with `keep="successors"` only until this job, all below it, and what takes its
        value are done.
        """
        source = Path(os.path.abspath(os.fspath(path)))
        if source.is_dir():
            raise JobError(f"write_file: {source} is a directory; write_dir takes one")
        if not source.exists():
            raise JobError(f"write_file: there is no file {source}")
        return self.store_file(source, source.name, _checked_keep("write_file", keep))

    def write_dir(self, path: str | os.PathLike[str], keep: str | None = None) -> DirRef:
        """Copy a directory with all that is in it into the store; `keep` as for `write_file`. Raises `JobError`."""
        kept = _checked_keep("write_dir", keep)
        source = Path(os.path.abspath(os.fspath(path)))
        if not source.is_dir():
            raise JobError(f"write_dir: there is no directory {source}")
        stored = self._keep_file(self.store.put_directory(self._next_file(source.name), source), kept)
        return DirRef(name=source.name, path=stored.path, size=stored.size, digest=stored.digest)

    def store_file(self, source: Path, name: str, keep: str = "") -> FileRef:
        """Copy a file into the store under `name`; `keep` as in `StoredFile`."""
        stored = self._keep_file(self.store.put_file(self._next_file(name), source), keep)
        return FileRef(
            name=name,
            path=stored.path,
            size=stored.size,
            digest=stored.digest,
            executable=os.access(source, os.X_OK),
        )

    def read_file(
        self,
        ref: FileRef | DirRef,
        to: str | os.PathLike[str] | None = None,
        mutable: bool = False,  # noqa: FBT001, FBT002 - the surface is fixed
    ) -> Path:
        """Where a stored file can be read on this host: a link in scratch, as a rule.

        With `to` it is put there (relative paths: in scratch). With `mutable` it is a copy, in scratch unless `to`
        says otherwise, that may be changed; else it must not be written to. Raises `JobError`, `NoSuchFile`.
        """
        from orch.work.staging import stage

        source = self.local_path(ref)
        if to is not None:
            target = self.scratch / to
            return stage(source, ref, target, mutable=mutable, private=self.scratch in target.parents)
        if not mutable:
            return self._to_read(source, ref)
        return stage(source, ref, self._free_name(ref.plain_name), mutable=True)

    def _to_read(self, source: Path, ref: FileRef | DirRef) -> Path:
        """Staged once an attempt, in a place of its own; again where user code has changed or removed it."""
        from orch.work.staging import fingerprint, stage

        path, before = self._staged.get(ref.path, (None, ()))
        if path is not None and fingerprint(path) == before:
            return path
        number = 1
        while os.path.lexists(directory := self.scratch / STAGED / str(number)):
            number += 1
        path = stage(source, ref, directory / ref.plain_name, mutable=False)
        self._staged[ref.path] = (path, fingerprint(path))
        return path

    def open(self, ref: FileRef) -> BinaryIO:
        """A stored file, opened for reading bytes."""
        return self.local_path(ref).open("rb")

    def local_path(self, ref: FileRef | DirRef) -> Path:
        """Where the store has it. Raises `JobError` if `ref` is none or the file was changed, `NoSuchFile` if gone."""
        from orch.errors import NoSuchFile
        from orch.work.staging import checked

        if not isinstance(ref, FileRef | DirRef):
            raise JobError(f"a FileRef or DirRef is needed, and this is a {type(ref).__name__}: {ref!r:.80}")
        path = self.store.local_path(ref.path)
        if not path.exists() and (why := self._fetched(ref.path)):
            raise NoSuchFile(f"{ref.name!r} is not in the store {self._place.store}: {ref.path} {why}")
        return checked(path, ref)

    def _fetched(self, path: str) -> str:
        """Have it fetched, on a host that does not see the leader's store; why it is not there, else."""
        from orch.work import wishes

        return wishes.fetch(self._place.store, path) if wishes.is_mirror(self._place.store) else "does not exist there"

    def _keep_file(self, stored: StoredFile, keep: str) -> StoredFile:
        stored = msgspec.structs.replace(stored, keep=keep) if keep else stored
        self.files.append(stored)
        return stored

    def _free_name(self, name: str) -> Path:
        target, number = self.scratch / name, 1
        while os.path.lexists(target):
            number += 1
            target = self.scratch / str(number) / name
        return target

    def _next_file(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise UserError(f"{name!r} cannot be the name of a stored file")
        if clean_text(name) != name:  # the log is UTF-8
            raise UserError(f"{name!r} cannot be the name of a stored file: it is not UTF-8; rename it first")
        directory, number = files_dir(self.who.run, self.who.job, self.who.attempt), len(self.files)
        while self.store.exists(f"{directory}/{number}"):  # of an attempt of that number that the log has lost since
            number += 1
        return f"{directory}/{number}/{name}"

    @property
    def store(self) -> FileStore:
        """The run's store on this host."""
        if self._store is None:
            from orch.store.file import FileStore

            self._store = FileStore(self._place.store)
        return self._store

    def keep(self, what: str, data: bytes) -> Blob:
        """A value or body: inline, or as a file of the store where it is large."""
        if len(data) <= INLINE_LIMIT:
            return Blob(data=data, size=len(data))
        from orch.store.blobs import make_blob

        return make_blob(self.store, value_file(self.who.run, self.who.job, self.who.attempt, what), data)

    # What comes after it ------------------------------------------------------------------------------------------

    def defer(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Have `function(*args, **kwargs)` called on this host once this attempt is over, however it ends.

        The call is durable when this returns, and is made also if the attempt is killed, or its agent dies and a later
        one comes up on this host. Calls are made in the order in which they were deferred, in a process of their own
        that is no job, each at least once: so the function must bear to be called again. What it raises is logged, and
        nothing more. Raises `JobError`.
        """
        from orch.work.deferred import Deferred, pickled_call, scene

        if not self._place.deferred:
            raise JobError(f"defer works inside a running job only, and {self.who.label} is none")
        call = pickled_call(function, args, kwargs)
        try:
            if self._deferred is None:
                around = scene(self.who.label, self.who.bundle, self.who.cwd)
                self._deferred = Deferred(self._place.deferred, self.who.key, around)
            self._deferred.add(call)
        except OSError as error:
            raise StoreError(f"defer: {self._place.deferred} cannot be written: {error.strerror or error}") from error

    # The graph ----------------------------------------------------------------------------------------------------

    def add_child(self, job: T) -> T:
        """Have `job` run after this one's body, used or not; gives it. Raises `GraphError` for what cannot be."""
        from orch.authoring.relations import CHILD, add

        return add(None, job, CHILD)

    def add_follow_on(self, job: T) -> T:
        """Have `job` run after all that this one makes, and everything below that; gives it."""
        from orch.authoring.nodes import FOLLOW_ON
        from orch.authoring.relations import add

        return add(None, job, FOLLOW_ON)

    def add_service(self, service: Any, parent: Any = None) -> Any:
        """Have an `orch.Service` run for the jobs that this one makes; gives what stands for its credentials.

        `parent`: another service of this job, which is to be up first.
        """
        from orch.authoring.services import add_service

        return add_service(None, service, parent)

    # What it says -------------------------------------------------------------------------------------------------

    def log(self, text: str, level: str = "info") -> None:
        """A line in the run's log. `level`: debug, info, warning, error, critical."""
        if level not in LEVELS:
            raise JobError(f"log: {level!r} is not a level; there are {', '.join(LEVELS)}")
        self._emit(Note(key=self.who.key, kind="log", value=clean_text(str(text)), level=level))

    def log_stream(self, name: str) -> io.TextIOBase:
        """A text stream to write to; each of its lines goes into the run's log, under `name`."""
        name = clean_text(name)
        return LogStream(
            lambda line: self._emit(Note(self.who.key, "log", name=name, value=clean_text(line), level="info"))
        )

    def say_up(self, credentials: bytes) -> None:
        """Of a service: it is up, and this is the pickle of what its `start` has returned."""
        self._emit(Note(self.who.key, "up", blob=self.keep("up", credentials)))

    def annotate(self, name: str, value: Any) -> None:
        """Say something about this job that `status` shows. `value`: what JSON can hold. The last one counts."""
        try:
            plain = jsonable(msgspec.json.decode(msgspec.json.encode(value)))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise JobError(f"annotate: the value of {name!r} cannot be written as JSON: {error}") from None
        self._emit(Note(self.who.key, "annotate", name=clean_text(str(name)), value=plain))


def _checked_keep(what: str, keep: str | None) -> str:
    if keep not in (None, "successors"):
        raise JobError(f'{what}: keep={keep!r}: it is "successors", or nothing for a file that is kept with the run')
    return keep or ""


class LogStream(io.TextIOBase):
    """Cuts what is written into lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = ""

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Keep an unfinished line until its end comes, or `close`."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)

    def close(self) -> None:
        """Say what is left."""
        if self._rest:
            self._say(self._rest)
            self._rest = ""
        super().close()


def context() -> Context:
    """The context of the running job. Raises `JobError` outside of one."""
    return current("orch.context()")


def running(*, workflow: bool = False) -> str:
    """What runs here, for messages: the label of a job, or with `workflow` of a workflow function too; else empty."""
    try:
        who = current("").who
    except JobError:
        return ""
    return who.label if who.job or workflow else ""


def current(what: str) -> Context:
    """The context, for `what`. Raises `JobError` outside of a job or workflow function."""
    found = _aside.get(_thread(), _current) if _aside else _current
    if found is None:
        raise JobError(f"{what} works inside a running job (or workflow function) only, and none runs here")
    return found


def _thread() -> int:
    import threading  # only for what runs aside

    return threading.get_ident()
