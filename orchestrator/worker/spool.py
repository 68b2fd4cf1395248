"""The files by which a leader and the workers of a batch system know of each other.

    runs/RUN/batch/                  0700, this user's own
        environment.EPOCH            what goes along to other hosts (msgpack), 0600
        pending.json                 why attempts wait, by key, as the batch system says
        orders/E-N.orders            a submission: a header, and its attempts one after another
        orders/E-N.sh                what the batch system is told to run
        orders/E-N.id                what the batch system called it, once that is known
        orders/E-N.nonce             of a probe: what it has to say again
        claims/E-N.I                 who has task I of it, for ever: made once, whoever is first
        news/E-N.I.started           a worker runs it (a `Claim`)
        news/E-N.I.K.notes           what it has said since (a list of `Note`), K from 1
        news/E-N.I.done              its `Outcome`
        wishes/E-N.I.stop            asks a service to stop by itself
        output/E-N.I.out, .err       what the attempt writes, while it runs and until it is acknowledged
        output/E-N.I.log             what the worker itself writes, and the batch system about it
        deferred/HOST/E-N.I/         what the attempt has deferred to its end (`orch.worker.nodes`)
        pilots/                      of pilots: see `orch.worker.pilot_files`

A submission is numbered by the epoch of its leader and within it; its tasks from 1. So no name is ever used twice, also
where two leaders do not know of each other. "E-N.I" is a ticket.

**Nothing runs twice.** A worker claims its ticket before it does anything else, and leaves if that is taken. A leader
that wants a ticket never to be used claims it itself (`revoke`): then the attempt may be handed over again, however
late the batch system starts what it was given. To claim is to link a file that is whole to a name that is not there
yet: that is atomic on local and on network file systems (link(2); open(2), O_EXCL, on why not otherwise).

Files appear whole (written under another name, renamed), and durable where that matters: orders, ids, claims, outcomes.
A reader on another host may see them late, but never half.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from orch.attempt import Attempt, Note, Outcome
from orch.store import layout
from orch.store.private import make_private, open_private
from orch.worker.locks import try_lock

FOLDERS = ("orders", "claims", "news", "wishes", "output")
LEADER = "leader"
WORKER = "worker"

PILOT = "pilot"
"""The form of an attempt that is none: its worker is an agent (`orch.worker.pilot`)."""

_MOST_LINKS = 1000
"""Names that one file is given: file systems bound that (65,000 on ext4, 1,024 on some others)."""

T = TypeVar("T")


class Ticket(NamedTuple):
    """One task of one submission."""

    submission: str
    task: int

    def __str__(self) -> str:
        return f"{self.submission}.{self.task}"

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """The reverse of `str`. Raises `ValueError`."""
        submission, _, task = text.rpartition(".")
        return cls(submission, int(task))


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has a ticket. `job`: what the batch system calls the task; `since`: UTC, ISO 8601.

    `by`: `WORKER`, or `LEADER` where it is never to be used.
    """

    by: str
    host: str = ""
    pid: int = 0
    job: str = ""
    since: str = ""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all attempts of a submission have in common, as far as a worker has to know it.

    `name`      what the batch system is told to call it: of letters, digits, "_", "-" and "." only
    `made`      when, by the leader's clock (seconds since 1970)
    `keys`, `places`: of each attempt its key, and where in the file its record begins, from the end of the header
    `work_dir`  below which workers have their runtime directories on their nodes; empty: where `TMPDIR` says
    `grace`     seconds between SIGTERM and SIGKILL for the processes of an attempt whose worker was told to end
    `probe`     there is no attempt: say what the worker sees, as the value of an outcome (a `Sight`)
    """

    run: str
    epoch: int
    name: str
    store: str
    made: float
    keys: list[str] = []
    places: list[int] = []
    python_path: list[str] = []
    work_dir: str = ""
    clean_scratch: str = "always"
    named: list[str] = []
    grace: float = 2.0
    probe: bool = False


class Sight(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a probe saw. `clock`: seconds since 1970; `nonce`: what it read from the file beside its orders."""

    host: str
    python: str
    version: str
    executable: str
    clock: float
    nonce: str = ""
    trouble: str = ""


class Spool:
    """The spool of one run. Blocking; raises `OSError`, and `ValueError` for a file that is none of ours."""

    def __init__(self, store: str, run: str) -> None:
        self.store = store
        self.run = run
        self.root = os.path.join(store, layout.batch_dir(run))
        self._held = -1

    def make(self) -> None:
        """Have its folders."""
        for name in FOLDERS:
            make_private(os.path.join(self.root, name))

    def path(self, folder: str, name: str) -> str:
        """The file `name` of a folder."""
        return os.path.join(self.root, folder, name)

    # Orders ---------------------------------------------------------------------------------------------------

    def write_orders(self, submission: str, header: Header, attempts: Sequence[Attempt]) -> None:
        """Make a submission's orders durable. `keys` and `places` of the header are filled in here."""
        records = [msgspec.msgpack.encode(attempt) for attempt in attempts]
        places, at = [], 0
        for record in records:
            places.append(at)
            at += len(record)
        head = msgspec.msgpack.encode(
            msgspec.structs.replace(header, keys=[attempt.key for attempt in attempts], places=[*places, at])
        )
        data = b"".join([len(head).to_bytes(4, "big"), head, *records])
        self._put("orders", f"{submission}.orders", data, durable=True)

    def header(self, submission: str) -> Header:
        """What a submission's tasks have in common."""
        return self._header(submission)[0]

    def order(self, ticket: Ticket) -> tuple[Header, Attempt | None]:
        """What a worker has to do; no attempt: a probe."""
        header, start = self._header(ticket.submission)
        if header.probe:
            return header, None
        if not 0 < ticket.task < len(header.places):
            raise ValueError(f"submission {ticket.submission} has no task {ticket.task}")
        begin, end = header.places[ticket.task - 1], header.places[ticket.task]
        with open(self.path("orders", f"{ticket.submission}.orders"), "rb") as file:
            file.seek(start + begin)
            return header, _decoded(file.read(end - begin), Attempt, file.name)

    def _header(self, submission: str) -> tuple[Header, int]:
        with open(self.path("orders", f"{submission}.orders"), "rb") as file:
            length = int.from_bytes(file.read(4), "big")
            return _decoded(file.read(length), Header, file.name), 4 + length

    def submissions(self) -> list[str]:
        """All whose orders are here, of whatever leader."""
        names = _names(os.path.join(self.root, "orders"))
        return sorted(name.removesuffix(".orders") for name in names if name.endswith(".orders"))

    def write_script(self, submission: str, text: str) -> str:
        """What the batch system is to run; its path."""
        name = f"{submission}.sh"
        self._put("orders", name, os.fsencode(text), mode=0o700)
        return self.path("orders", name)

    def write_id(self, submission: str, job: str) -> None:
        """The batch system has taken it, under this name."""
        self._put("orders", f"{submission}.id", job.encode(), durable=True)

    def read_id(self, submission: str) -> str:
        """What the batch system calls it; empty: not known."""
        try:
            with open(self.path("orders", f"{submission}.id"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def write_nonce(self, submission: str, nonce: str) -> None:
        """Something that a probe has to say again: then it sees what is written here."""
        self._put("orders", f"{submission}.nonce", nonce.encode(), durable=True)

    def read_nonce(self, submission: str) -> str:
        """The same again; empty: it cannot be seen."""
        try:
            with open(self.path("orders", f"{submission}.nonce"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def write_environment(self, epoch: int, environment: dict[str, str]) -> None:
        """What workers of this leader's submissions get (`orch.environment.packed`)."""
        self._put("", f"environment.{epoch}", msgspec.msgpack.encode(environment), durable=True)

    def epochs(self) -> list[int]:
        """Of leaders that have an environment here."""
        numbers = [name.partition(".")[2] for name in _names(self.root) if name.startswith("environment.")]
        return [int(number) for number in numbers if number.isdecimal()]

    def read_environment(self, epoch: int) -> dict[str, str]:
        """The same again."""
        with open(self.path("", f"environment.{epoch}"), "rb") as file:
            return _decoded(file.read(), dict[str, str], file.name)

    # Claims ---------------------------------------------------------------------------------------------------

    def claim(self, ticket: Ticket, claim: Claim) -> Claim | None:
        """Have a ticket, durably; None: it is ours now. Else who has it already.

        It is locked before anybody sees it, and for as long as this object is (`is_held`).
        """
        target = self.path("claims", str(ticket))
        draft = f"{target}.{claim.by}.{claim.host}.{claim.pid}"
        self._write(draft, msgspec.msgpack.encode(claim), 0o600, durable=True)
        self._held = try_lock(draft)
        try:
            os.link(draft, target)
        except FileExistsError:
            found = self.claimed(ticket)
            return None if found == claim else found  # ours, if an answer of the file server was lost
        finally:
            os.unlink(draft)
        _sync_directory(os.path.dirname(target))
        return None

    def revoke(self, tickets: Sequence[Ticket]) -> dict[Ticket, Claim]:
        """See to it that no worker ever takes these tickets; what comes back are those that workers have already.

        One file is linked to all their names: many cost little more than one.
        """
        taken: dict[Ticket, Claim] = {}
        for first in range(0, len(tickets), _MOST_LINKS):
            taken.update(self._revoke(tickets[first : first + _MOST_LINKS]))
        return taken

    def _revoke(self, tickets: Sequence[Ticket]) -> Iterator[tuple[Ticket, Claim]]:
        draft = self.path("claims", f".{LEADER}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}")
        self._write(draft, msgspec.msgpack.encode(Claim(LEADER, pid=os.getpid())), 0o600, durable=True)
        try:
            lost = [ticket for ticket in tickets if not self._link(draft, ticket)]
        finally:
            os.unlink(draft)
        _sync_directory(os.path.dirname(draft))
        for ticket in lost:
            claim = self.claimed(ticket) or self.claim(ticket, Claim(LEADER, pid=os.getpid()))  # it was just let go of
            if claim is not None and claim.by == WORKER:
                yield ticket, claim

    def _link(self, draft: str, ticket: Ticket) -> bool:
        try:
            os.link(draft, self.path("claims", str(ticket)))
        except FileExistsError:
            return False
        return True

    def claimed(self, ticket: Ticket) -> Claim | None:
        """Who has it, if anybody has."""
        return self._read("claims", str(ticket), Claim)

    def is_held(self, ticket: str) -> bool:
        """Does the worker that has a ticket live, as far as can be known? Where there are no locks, it may."""
        path = self.path("claims", ticket)
        lock = try_lock(path)
        if lock >= 0:
            os.close(lock)
        return lock < 0 and os.path.exists(path)

    def unclaim(self, ticket: Ticket) -> None:
        """Give a ticket of ours back, with which nothing was done."""
        self._remove("claims", str(ticket))

    # News -----------------------------------------------------------------------------------------------------

    def news(self) -> list[str]:
        """The names of all files of news that are there now."""
        return [name for name in _names(os.path.join(self.root, "news")) if not name.startswith(".")]

    def refresh(self, folder: str = "news") -> None:
        """Have the next look at what is in a folder ask the file server, and not an old answer.

        NFS clients keep listings, and that a name is not there, until they see that the directory has changed, which
        they may not look at for half a minute (nfs(5), "Directory entry caching"). To change its time is to look.
        """
        os.utime(os.path.join(self.root, folder))

    def put_started(self, ticket: Ticket, claim: Claim) -> None:
        """Its body runs."""
        self._put("news", f"{ticket}.started", msgspec.msgpack.encode(claim))

    def started(self, ticket: Ticket) -> Claim | None:
        """Who runs it, if that was said."""
        return self._read("news", f"{ticket}.started", Claim)

    def put_notes(self, ticket: Ticket, number: int, notes: Sequence[Note]) -> None:
        """What it has said, in order. `number` from 1."""
        self._put("news", f"{ticket}.{number}.notes", msgspec.msgpack.encode(list(notes)))

    def notes(self, name: str) -> list[Note]:
        """What stands in a file of notes, by its name in `news`."""
        return self._read("news", name, list[Note]) or []

    def put_outcome(self, ticket: Ticket, outcome: Outcome) -> None:
        """It is over; durable when this returns."""
        self._put("news", f"{ticket}.done", msgspec.msgpack.encode(outcome), durable=True)

    def outcome(self, ticket: Ticket) -> Outcome | None:
        """What it left behind, once it is over."""
        return self._read("news", f"{ticket}.done", Outcome)

    def write_pending(self, text: str) -> None:
        """Why attempts wait, as the batch system says: for people, JSON, by key."""
        self._put("", "pending.json", text.encode())

    def pending(self) -> dict[str, str]:
        """The same again. What cannot be read is nothing: it is for people, and others know it too."""
        try:
            with open(self.path("", "pending.json"), "rb") as file:
                return msgspec.json.decode(file.read(), type=dict[str, str])
        except (OSError, ValueError):
            return {}

    # Wishes ---------------------------------------------------------------------------------------------------

    def ask_to_stop(self, ticket: Ticket) -> None:
        """Ask a service to stop by itself."""
        self._put("wishes", f"{ticket}.stop", b"")

    def asked_to_stop(self, ticket: Ticket) -> bool:
        """Was it?"""
        return os.path.exists(self.path("wishes", f"{ticket}.stop"))

    # Clearing up ----------------------------------------------------------------------------------------------

    def clear(self, tickets: Collection[Ticket], submissions: Collection[str], notes: Collection[str] = ()) -> None:
        """Remove what is here of tasks that are over, and of whole submissions; `notes`: names of news.

        Of a task the claim stays until its submission goes. Of a submission the orders go first: a worker claims, and
        then reads them, so that one which comes even now finds the claim, or nothing to do.
        """
        names = {str(ticket) for ticket in tickets}
        whole = frozenset(submissions)
        for folder in FOLDERS:
            for name in _names(os.path.join(self.root, folder)):
                submission, _, rest = name.partition(".")
                ticket = f"{submission}.{rest.partition('.')[0]}"
                over = ticket in names and folder in ("news", "wishes", "output")
                if submission in whole or over or (name in notes and folder == "news"):
                    self._remove(folder, name)

    def leave(self) -> bool:
        """Remove what no submission needs any more, if there is none; is that so?"""
        if self.submissions():
            return False
        for name in _names(self.root):
            if name.startswith("environment.") or name == "pending.json":
                self._remove("", name)
        for folder in FOLDERS:  # drafts of those that died while they wrote
            for name in _names(os.path.join(self.root, folder)):
                if name.startswith("."):
                    self._remove(folder, name)
        return True

    def _remove(self, folder: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(folder, name))

    # Files ----------------------------------------------------------------------------------------------------

    def _read(self, folder: str, name: str, kind: type[T]) -> T | None:
        try:
            with open(self.path(folder, name), "rb") as file:
                return _decoded(file.read(), kind, file.name)
        except FileNotFoundError:
            return None

    def _put(self, folder: str, name: str, data: bytes, mode: int = 0o600, *, durable: bool = False) -> None:
        target = self.path(folder, name)
        draft = os.path.join(os.path.dirname(target), f".{name}.{os.getpid()}")
        self._write(draft, data, mode, durable=durable)
        os.rename(draft, target)
        if durable:
            _sync_directory(os.path.dirname(target))

    @staticmethod
    def _write(path: str, data: bytes, mode: int, *, durable: bool) -> None:
        with open(path, "wb", opener=open_private) as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())


def _decoded(data: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _names(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from [entry.name for entry in entries]
    except FileNotFoundError:
        return


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
