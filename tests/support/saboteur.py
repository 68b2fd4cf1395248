"""The `orch` command with a fault in it, at an exact place: `python -P tests/support/saboteur.py PLAN COMMAND …`.

PLAN is JSON. The log's file operations are wrapped, and so a fault comes at an event or at an operation, not at a time:

    at       event (its number), or with `operation` how often that was called
    own      the events of this process count from 1, whatever came before
    when     before    nothing of the event's group is written
             torn      the event's line is written to its middle
             behind    … to its end; the group is not synced
             synced    its group is synced, and the leader has not yet looked whether it is fenced
             checked   it has, and not yet acted
    do       a list of: leader, agent, workers, template: kill them (SIGKILL); services: those whose process ids
             are in the file `where`; term, interrupt: SIGTERM, SIGINT to itself; stop: SIGSTOP to itself;
             fill: leave no room on the disk of `where`; files: nor for a new file there;
             clock: this process' clock goes back by `seconds`; touch: make the file `where`
    audit    instead: the leader is killed before the `at`-th change of the file system, whatever it changes
    host     this process takes itself to be on the host of that name, on a file system that has no locks, with leases
             of `lease` seconds
    operation, error    instead: this operation of the log (write, sync …) fails with this errno from then on, or `once`
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from orch.agent import paths, processes
from orch.agent.tags import agent_name
from orch.bus.files import REAL, RealFiles
from orch.bus.machine import HERE
from orch.cli.main import main
from orch.leader import snapshots


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """What goes wrong, and where."""

    at: int = 1
    when: str = "behind"
    do: list[str] = []
    own: bool = False
    operation: str = ""
    error: str = "EIO"
    once: bool = False
    audit: bool = False
    store: str = ""
    run: str = ""
    where: str = ""
    seconds: float = 0.0
    host: str = ""
    lease: float = 0.0


SEGMENT = ".events.jsonl"


class Seq(msgspec.Struct):
    """What is read of a line that is about to be written."""

    seq: int


class Sabotaged(RealFiles):
    """The real files, and what the plan does to whoever writes a log with them."""

    plan: Plan
    act: Callable[[], None]

    def __init__(self) -> None:
        raise AssertionError("REAL becomes one of these")

    def begin(self, plan: Plan, act: Callable[[], None]) -> None:
        """Wait for the moment."""
        self.plan = plan
        self.act = act
        self.first = 1 if not plan.own else 0
        self.calls = 0
        self.due = ""
        self.log = -1

    def write(self, handle: int, data: bytes) -> None:
        if handle != self.log:
            super().write(handle, data)
            return
        self._count("write")
        lines = data.splitlines(keepends=True)
        seqs = [msgspec.json.decode(line, type=Seq).seq for line in lines]
        self.first = self.first or seqs[0]
        at = self.plan.at if not self.plan.own else self.first + self.plan.at - 1
        if self.plan.operation or at not in seqs:
            super().write(handle, data)
            return
        place = seqs.index(at)
        when = self.plan.when
        if when in ("synced", "checked"):
            self.due = when
        split = sum(map(len, lines[:place])) + {"torn": len(lines[place]) // 2, "behind": len(lines[place])}.get(
            when, 0
        )
        if when in ("torn", "behind"):
            super().write(handle, data[:split])
            self.act()
            super().write(handle, data[split:])
        else:
            if when == "before":
                self.act()
            super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._count("sync")
        super().sync(handle)
        self._done("synced")

    def exists(self, path: Path) -> bool:
        self._count("exists")
        found = super().exists(path)
        self._done("checked")
        return found

    def create(self, path: Path) -> int:
        self._count("create")
        handle = super().create(path)
        if path.name.endswith(SEGMENT):
            self.log = handle
        return handle

    def sync_dir(self, path: Path) -> None:
        self._count("sync_dir")
        super().sync_dir(path)

    def list(self, directory: Path) -> list[str]:
        self._count("list")
        return super().list(directory)

    def open(self, path: Path) -> int:
        self._count("open")
        return super().open(path)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self._count("read")
        return super().read(handle, offset, size)

    def _done(self, what: str) -> None:
        if self.due == what:
            self.due = ""
            self.act()

    def _count(self, operation: str) -> None:
        if operation == self.plan.operation:
            self.calls += 1
            if self.calls == self.plan.at or (self.calls > self.plan.at and not self.plan.once):
                number = getattr(errno, self.plan.error)
                raise OSError(number, os.strerror(number))


def actor(plan: Plan) -> Callable[[], None]:
    """What the plan does, once its moment has come."""

    def act() -> None:
        for what in plan.do:
            _DEEDS[what](plan)

    return act


def kill_leader(_plan: Plan) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_leader(_plan: Plan) -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread: it does not go on for a moment


def terminate(_plan: Plan) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt(_plan: Plan) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill_agent(plan: Plan) -> None:
    pid = agent_of(plan.store)
    if pid:
        _kill(pid)


def kill_workers(plan: Plan) -> None:
    """Every process of an attempt of the run."""
    for pid in processes.marked(f"{agent_name(plan.store, paths.host_name())}:{plan.run}."):
        _kill(pid)


def kill_services(plan: Plan) -> None:
    """Those of the run's processes that say they are services."""
    known = {int(line) for line in Path(plan.where).read_text().splitlines()} if Path(plan.where).exists() else set()
    for pid in processes.marked(f"{agent_name(plan.store, paths.host_name())}:{plan.run}."):
        if pid in known:
            _kill(pid)


def kill_template(plan: Plan) -> None:
    """The templates, which are all the agent's marked children that no attempt belongs to."""
    agent = agent_of(plan.store)
    idle = f"{agent_name(plan.store, paths.host_name())}:."
    for pid in processes.children(agent) if agent else []:
        if processes.tag(pid).startswith(idle):
            _kill(pid)


def fill(plan: Plan) -> None:
    """Not a block more; what is left in the blocks that files have begun can still be written."""
    fill_disk(Path(plan.where))


def use_up_files(plan: Plan) -> None:
    """Make files until no more can be made."""
    number = 0
    while True:
        number += 1
        try:
            os.close(os.open(f"{plan.where}/ballast-{number}", os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError:
            return


def set_clock_back(plan: Plan) -> None:
    """The wall clock of this process. The monotonic one goes on, as it does when a host's clock is set."""
    set_clock(-plan.seconds)


def touch(plan: Plan) -> None:
    """Pull the trigger of another process."""
    Path(plan.where).touch()


_DEEDS: dict[str, Callable[[Plan], None]] = {
    "leader": kill_leader,
    "stop": stop_leader,
    "agent": kill_agent,
    "workers": kill_workers,
    "services": kill_services,
    "term": terminate,
    "interrupt": interrupt,
    "template": kill_template,
    "fill": fill,
    "files": use_up_files,
    "clock": set_clock_back,
    "touch": touch,
}


def agent_of(store: str) -> int:
    """Process id of the store's agent: whoever listens on its socket; 0 if nobody does."""
    import socket
    import struct

    directory = paths.read_pointer(store)
    connection = paths.connect(directory) if directory else None
    if connection is None:
        return 0
    with connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def fill_disk(directory: Path) -> Path:
    """Use up a disk with one file, which is returned."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    return ballast


def set_clock(seconds: float) -> None:
    """Put the wall clock of this process forward, or back."""
    real_time, real_now = time.time, dt.datetime.now

    def utc_now() -> str:
        return (real_now(dt.UTC) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    time.time = lambda: real_time() + seconds
    object.__setattr__(HERE, "clock", utc_now)
    for module in list(sys.modules.values()):
        if getattr(module, "utc_now", None) is not None and module.__name__.startswith("orch."):
            module.utc_now = utc_now  # type: ignore[attr-defined]


def move(plan: Plan) -> None:
    """To another host, as far as the run's lock can tell."""
    from orch.bus import identity, lease, lock
    from orch.leader import opened

    def somebody(version: str = "") -> identity.Identity:
        return msgspec.structs.replace(identity.whoami(version), host=plan.host)

    lease.whoami = somebody  # type: ignore[attr-defined]
    lease.LEASE = plan.lease
    opened.RENEW = plan.lease / 6  # type: ignore[attr-defined]
    object.__setattr__(lock._REAL, "try_lock", lambda _handle, _kind: "unsupported")


def _kill(pid: int) -> None:
    """Kill a process, and wait until it has gone."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor) as held:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(held.fileno(), signal.SIGKILL)
        poll = select.poll()
        poll.register(held.fileno(), select.POLLIN)
        poll.poll(10_000)


CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "fcntl.flock"}
"""Audit events (sys.addaudithook) of what changes names or files; `open` does where it creates or writes."""


def kill_at_change(plan: Plan) -> None:
    """Before the `at`-th call that changes something below the store, this process is killed."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            count += event == "fcntl.flock" or not str(arguments[0]).startswith("/dev/")
            if count == plan.at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def install(plan: Plan) -> None:
    """From here on, the log's files are sabotaged."""
    if plan.audit:
        kill_at_change(plan)
        return
    snapshots.LONG = 16  # so that the next leader carries on from one, mostly
    if plan.host:
        move(plan)
    REAL.__class__ = Sabotaged  # the object is the default of functions everywhere
    sabotaged: Any = REAL
    sabotaged.begin(plan, actor(plan))


if __name__ == "__main__":
    install(msgspec.json.decode(sys.argv[1], type=Plan))
    sys.argv = ["orch", *sys.argv[2:]]
    sys.exit(main())
