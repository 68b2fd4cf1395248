"""What is particular to one batch system: commands that are built, answers that are parsed, a table of states.

A dialect is pure: it starts no process, reads no file and knows no clock. The engine (`orch.adapters.batch`) calls the
commands, bounds how long they take, tries again, asks seldom, and draws the conclusions. A dialect's methods raise
`Refused` and `Trouble`, and nothing else, whatever the batch system answers.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from orch.adapters.options import Option
from orch.attempt import Reason
from orch.bus.events import Accelerator
from orch.errors import AdapterError


class Refused(AdapterError):
    """The batch system will never take this, however often it is asked. The text, for people, says why."""


class Trouble(AdapterError):
    """It does not answer, or what it answers makes no sense. That may pass: the engine asks again, ever less often."""


class NotTaken(Trouble):
    """Of a submission: it has surely not been taken now, and may be later: some limit is reached, say.

    After any other trouble the engine has to assume that it may have been taken.
    """


class Command(msgspec.Struct, frozen=True):
    """A program to be called. `env` comes on top of the leader's environment; a variable that is None is taken out.

    `timeout`: seconds after which it is killed, and counts as `Trouble`.
    """

    argv: list[str]
    stdin: str = ""
    env: dict[str, str | None] = {}
    timeout: float = 60.0


class Answer(msgspec.Struct, frozen=True):
    """What a command came to. `out`, `err`: text, with what is no UTF-8 replaced."""

    command: Command
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its words, in one line, for a message."""
        return " ".join((self.err.strip() or self.out.strip() or f"exit code {self.code}").split())[:500]


class Order(msgspec.Struct, frozen=True):
    """One submission: `size` tasks that ask for the same, numbered from 1; more than one are an array.

    `name`      of letters, digits, "_", "-" and ".", at most 60; unlike that of any other submission of any store.
                `search` has to find the submission by it
    `label`     for people who look at the queue: what the jobs are called. Anything, of any length
    `script`    path of what each task runs: an executable file for /bin/sh, which all nodes can see
    `cores`     whole ones, 1 at least
    `memory`    bytes that the task needs in all, worker included; 0: not said, or not to be said at this site
    `disk`      bytes of scratch on the node; 0: not said
    `walltime`  seconds that the task may take in all; 0: not said
    `queue`     the queue or partition; empty: not said
    `backend`   what the job passes through to the batch system
    `log`       path of the file for what the worker and the batch system write (stdout and stderr, joined), where of
                an array `{index}` stands for the number of the task
    `grace`     seconds between SIGTERM, or the like, and SIGKILL that a worker would like to have
    """

    name: str
    label: str
    size: int
    script: str
    log: str
    cores: int = 1
    memory: int = 0
    disk: int = 0
    walltime: float = 0.0
    accelerators: tuple[Accelerator, ...] = ()
    preemptible: bool = False
    priority: int = 0
    queue: str = ""
    backend: tuple[tuple[str, str], ...] = ()
    grace: float = 30.0


class Stage(enum.Enum):
    """Where the batch system says that a task stands."""

    QUEUED = "queued"
    HELD = "held"  # waits, and will for ever unless somebody does something
    RUNNING = "running"
    ENDING = "ending"
    OVER = "over"
    STRANGE = "strange"  # a word that the dialect does not know: warned of once, and looked at again


class End(msgspec.Struct, frozen=True):
    """How the batch system says that a task ended. It counts where the worker has left no outcome, or was told to end.

    `reason` FINISHED: with exit code 0. `message`: one line for people; the batch system's own word is in it.
    """

    reason: Reason
    exit_code: int | None = None
    signal: int = 0
    message: str = ""


class Seen(msgspec.Struct, frozen=True):
    """What the batch system says of one task.

    `word` is its own name of the state; `why`: why the task does not run (yet), in its own words; `end` only if OVER.
    """

    stage: Stage
    word: str
    why: str = ""
    host: str = ""
    end: End | None = None


class Room(msgspec.Struct, frozen=True):
    """What there is: in all, and the most that one task can get. Memory and disk in bytes; 0: not known.

    `accelerators`: of one node.
    """

    cores: float = 0.0
    node_cores: float = 0.0
    node_memory: int = 0
    accelerators: tuple[Accelerator, ...] = ()


class Dialect(Protocol):
    """One batch system. Made with the adapter's settings as text, by full name, and the leader's environment.

    `index_variable`  names the variable in which a task of an array finds its number (as the engine numbers them: from
                      1); empty: the dialect has the number appended to the script's arguments
    `job_variable`    names the variable in which a task finds what the batch system calls it
    `most_tasks`      of one submission; 1: there are no arrays
    `most_asked`      tasks or submissions that fit into one question
    `lag`             seconds for which a task that has ended may be known neither to `look` nor to `recall`
    `backend_keys`    what a job passes through in `backend={…}`; None: anything. The user is told once of other keys,
                      and they are left out; with `batch-strict`, `submit` has to raise `Refused` for them
    """

    name: str
    index_variable: str
    job_variable: str
    most_tasks: int
    most_asked: int
    lag: float

    @property
    def backend_keys(self) -> Collection[str] | None:
        """See above: an attribute will do."""

    def check(self) -> None:
        """Raises `orch.errors.UserError` where its settings make no sense."""

    def submit(self, order: Order) -> Command:
        """Hand over. Raises `Refused` for what can be seen to be impossible here."""

    def submitted(self, order: Order, answer: Answer) -> str:
        """What the batch system calls the submission. Raises `Refused`, `NotTaken`, `Trouble`."""

    def task(self, job: str, index: int, size: int) -> str:
        """What it calls task `index` of a submission that it calls `job`: the key in answers, and for people."""

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """Ask what it has of these submissions now: one command for all, where it can be."""

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task. What is not there may be over, or not be known yet. Raises `Trouble`."""

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """Ask what became of tasks submitted after `since` (seconds since 1970); no command: it keeps no records."""

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task, the last record of each. Raises `Trouble`."""

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """Ask for submissions by their names, those that are over already included."""

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """What it calls them, by name; those not there were never taken. Raises `Trouble` where it is unsure."""

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """End tasks, queued or running."""

    def cancelled(self, answer: Answer) -> None:
        """Raises `Trouble` if it has to be said again. A task that is not known any more is none."""

    def survey(self) -> Sequence[Command]:
        """Ask what there is."""

    def room(self, answers: Sequence[Answer]) -> Room:
        """What there is, as far as it can be told. Raises `Trouble`."""


class MakeDialect(Protocol):
    """A dialect's class, or a function: what the registry of dialects names."""

    def __call__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> Dialect:
        """Make one. `options`: the adapter's settings as text, by full name, those that were given."""


__all__ = [
    "Answer",
    "Command",
    "Dialect",
    "End",
    "MakeDialect",
    "NotTaken",
    "Option",
    "Order",
    "Reason",
    "Refused",
    "Room",
    "Seen",
    "Stage",
    "Trouble",
]
