"""The contract between the leader and a batch system.

An `Adapter` is shared by all runs of one Orchestrator; a `Session` is one run's view of it. The leader hands over
attempts in batches and reads batches of updates. Updates may come twice, late or out of order: each names its
attempt by key, and the leader ignores what it already knows. An adapter never raises for an unknown state of the
batch system; it warns and carries on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from orch.agent import devices
from orch.attempt import Attempt, Note, Outcome
from orch.bus.events import Accelerator, Resources
from orch.environment import abroad
from orch.sizes import format_size

IN_PROCESS = "inprocess"
"""The adapter that runs jobs in the leader's own process; then the workflow is planned there, too."""


class Queued(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", tag="queued", gc=False):
    """The batch system has the attempt, under the name `id`."""

    key: str
    id: str = ""


class Started(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", tag="started", gc=False):
    """The attempt's body runs. `since`: UTC, ISO 8601."""

    key: str
    host: str = ""
    pid: int = 0
    since: str = ""
    id: str = ""


class Finished(msgspec.Struct, frozen=True, tag_field="t", tag="finished", gc=False):
    """The attempt is over, however it ended, and nothing of it is left running."""

    key: str
    outcome: Outcome


class Unknown(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", tag="unknown", gc=False):
    """Answer to `find`: neither the batch system nor a journal has ever heard of the key; it may be submitted again.

    `ask` is the number of the question. Nobody asked: 0; then the leader asks about all its live attempts before it
    believes anything.
    """

    key: str
    ask: int = 0


class Said(msgspec.Struct, frozen=True, tag_field="t", tag="said", gc=False):
    """Something about the batch system that the user should know, and about no attempt: a line, said once.

    That it does not answer, and does again; that it understands less than was asked for … `key` stays empty.
    """

    text: str
    key: str = ""


OfAttempt = Queued | Started | Finished | Unknown | Note
Update = OfAttempt | Said


class Capacity(msgspec.Struct, frozen=True, gc=False):
    """The most that all attempts of a run may use at once, and that one attempt can ever get.

    `ahead`: how many attempts more than fit may be handed over, so that no slot idles for a turn of the leader.
    `accelerators`: the devices that there are. `chains`: attempts with `after` are understood.
    `elastic`: what is queued may get room that is not counted here (a batch system with other users, mostly).
    `beyond`: what there would be if the run had no limits of its own; None: the same.
    `trouble`: why the devices of `accelerators` may not be all that there are, for people.
    `give_way`: runs wait for each other for ever, and this one is to be given up if it can do nothing about it: what it
    lacks, for people. Mostly empty.
    `most`: attempts that may be live at once; 0: as many as there are cores, and `ahead`.
    `unsure`: there may be accelerators that are not counted here: what there is not will be refused later.
    `places`: all this is the sum of these, and an attempt is in one of them. Empty: it is one place.
    """

    cores: float
    memory: int
    disk: int
    ahead: int = 64
    accelerators: tuple[Accelerator, ...] = ()
    chains: bool = False
    elastic: bool = False
    beyond: Capacity | None = None
    trouble: str = ""
    give_way: str = ""
    most: int = 0
    unsure: bool = False
    places: tuple[Capacity, ...] = ()


class RunInfo(msgspec.Struct, frozen=True):
    """What an adapter has to know of a run to run its attempts.

    `environment` is passed on in memory, never stored; `named` are the variables in it that the user gave by
    `--set-env`. Attempts on this host get all of it. On other hosts they get `environment_abroad`.
    `clean_scratch` is for the field of that name of each attempt.
    `options`: the adapter's own settings that were given, by their full names ("slurm-partition"), as text.
    """

    run: str
    epoch: int
    store: str
    environment: dict[str, str]
    python_path: list[str] = []
    cores: float = 0.0  # 0: all that there are
    memory: int = 0
    disk: int = 0
    work_dir: str = ""
    named: list[str] = []
    clean_scratch: str = "always"
    options: dict[str, str] = {}

    def environment_abroad(self) -> dict[str, str]:
        """What goes along to another host. Adapters for other hosts use this, and nothing else of `environment`.

        It travels over a private channel (a socket, an encrypted connection, a file that only this user can read),
        never in argv, a log, or the name of a job: those can be seen by others.
        """
        return abroad(self.environment, self.named)

    def __repr__(self) -> str:  # it gets into tracebacks and logs of others: without values
        return f"RunInfo(run={self.run!r}, epoch={self.epoch}, environment=<{len(self.environment)} variables>)"


class Session(Protocol):
    """One run's connection to a batch system. Cancellation-safe; `updates` is consumed by one task only."""

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand over attempts whose intention is durable. Submitting a known key again is harmless."""

    async def cancel(self, keys: Sequence[str]) -> None:
        """Ask to end these attempts and all that descends from them; each is confirmed by a `Finished` (KILLED)."""

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Tell these services to stop by themselves: each ends with a `Finished` (FINISHED, mostly).

        One that does not know of it, or is not up yet, stops as soon as it is. To say it again is harmless.
        """

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What the run may use at once from now on, as in `RunInfo`; what runs goes on. 0: all that there is."""

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """The outcomes of these keys are durable in the log: the adapter may forget them."""

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """After a restart: for each key an update comes that says where it stands (`Unknown`, with `ask`, included).

        Attempts of this run that the adapter has and that are not named are of no use to anybody: it ends them.
        """

    def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates, for ever; an empty one where `capacity` has changed.

        Raises `orch.errors.AdapterError` when the batch system is gone for good.
        """

    def capacity(self) -> Capacity:
        """The limits, at this moment."""

    def stand_still(self, *, waits: bool) -> None:
        """Said in each turn of the leader, once all updates were taken: can nothing move unless other runs give room?

        An adapter that knows of several such runs may find that they wait for each other (`Capacity.give_way`).
        """

    async def describe(self, key: str) -> str:
        """Why is this attempt not running yet? One line, or empty."""

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What a running attempt has written to stdout and stderr so far (head and tail, bounded)."""

    async def close(self) -> None:
        """Let go. Live attempts go on."""


class Adapter(Protocol):
    """The async face of a batch system, found through the entry-point group `orch.adapters`.

    One with an attribute `elsewhere` that is true gets no attempts with `local` and no surveys: these run on the
    leader's host (`orch.adapters.mixed`). With an attribute `settings`, a sequence of `orch.adapters.options.Option`,
    it has settings of its own. One with a method `probe(info, tell)` looks whether its hosts are fit for a run before
    that begins; it tells the user what it waits for, and raises `orch.errors.UserError`.
    """

    name: str

    async def open(self, info: RunInfo) -> Session:
        """Connect a run. Raises `orch.errors.Fenced` where a later epoch of the run is already connected."""

    async def close(self) -> None:
        """End what this object started in this process (never live attempts)."""


def fits(wanted: Resources, capacity: Capacity, held: Sequence[Accelerator] = ()) -> str:
    """Empty if `wanted` can ever be given by `capacity`, else what is short, for a message to the user.

    `held`: of the accelerators, those that others have and keep.
    """
    short = []
    if capacity.places and all(fits(wanted, place) for place in capacity.places):
        largest = max(capacity.places, key=lambda place: (place.cores, place.memory))
        return f"{fits(wanted, largest)} (on the largest of {len(capacity.places)} hosts)"
    if wanted.cores > capacity.cores:
        short.append(f"cores: wanted {wanted.cores:g}, available {capacity.cores:g}")
    if wanted.memory > capacity.memory:
        short.append(f"memory: {_sizes(wanted.memory, capacity.memory)}")
    if wanted.disk > capacity.disk:
        short.append(f"disk: {_sizes(wanted.disk, capacity.disk)}")
    lacking = devices.lacking(capacity.accelerators, wanted.accelerators, held) if wanted.accelerators else ""
    if lacking and not capacity.unsure:
        short.append(f"accelerators: {lacking}" + (f" ({capacity.trouble})" if capacity.trouble else ""))
    return "; ".join(short)


def _sizes(wanted: int, available: int) -> str:
    """Both for people; in bytes where they would look the same."""
    shown = [format_size(wanted), format_size(available)]
    if shown[0] == shown[1]:
        shown = [f"{wanted} bytes", f"{available} bytes"]
    return f"wanted {shown[0]}, available {shown[1]}"
