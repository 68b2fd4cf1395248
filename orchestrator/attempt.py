"""What is handed over for one attempt at a job, and what it leaves behind.

These records cross process borders (leader, agent, template, worker, batch systems' nodes) as msgpack. They know
nothing of the leader and of user code: bodies and values are opaque bytes here.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import msgspec

from orch.bus.events import EMPTY, Blob, Call, JobId, Resources, Retry, StoredFile, Usage


class Reason(enum.StrEnum):
    """Why an attempt ended (see docs for what each one costs)."""

    FINISHED = "FINISHED"  # exit code 0 and an outcome
    FAILED = "FAILED"  # the body raised, or the program exited non-zero or was killed by a signal
    LOST = "LOST"  # the host or the agent went away
    KILLED = "KILLED"  # ended on our request
    ERROR = "ERROR"  # we or the batch system could not run it
    MEMLIMIT = "MEMLIMIT"  # used more memory than asked for
    MISSING = "MISSING"  # the batch system has forgotten it
    MAXJOBDURATION = "MAXJOBDURATION"  # ran longer than its wall time
    PARTITION = "PARTITION"  # ended well, but its outcome cannot be read
    PREEMPTED = "PREEMPTED"  # the batch system took the place away


class Value(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A finished job's value. `refs[k]` is the job whose value stands at reference number k in the pickle.

    `label` names the job for messages: "fib(3) [job 17]".
    """

    blob: Blob
    refs: list[JobId] = []
    label: str = ""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One attempt, as the leader hands it to an adapter. Self-contained, but for the store and the bundle.

    `key`     unique for ever: run, job and attempt
    `needs`   the jobs that the body refers to; reference number k in the body is `needs[k]`
    `values`  their values, and all values that stand inside those (aliases already followed)
    `bundle`  digest of the code; empty for a command that needs none
    `max_log` bytes kept of each of stdout and stderr
    `after`   a link of a chain: the key of the attempt in whose place it runs, once that has finished and has added no
              jobs; what that one's job comes to is then put into `values` by whoever runs the chain. Else it is void,
              and forgotten without a word
    `surveys` how many attempts at the job were surveys: the body does not count them
    `survey`  do not run the body: evaluate `wanted`, and say what the call is (the outcome's `resources` and `call`)
    `cache`, `version`: as in the event `added`; `serves`: of a service, the job that it is for
    `asked`   of a survey: what the job asks for, which `wanted` changes (None: `resources`)
    `env`     variables of this attempt alone, on top of the run's environment: which devices it was given …
    `clean_scratch`: when its scratch directory is deleted: always, on-success, on-error, never
    `doom`    seconds after its start at which it is killed as if its host were lost (0: it is not)
    """

    key: str
    run: str
    job: JobId
    attempt: int
    epoch: int
    kind: str
    name: str
    form: str
    body: Blob
    resources: Resources
    needs: list[JobId] = []
    values: dict[JobId, Value] = {}
    bundle: str = ""
    cwd: str = ""
    max_log: int = 16 * 1024 * 1024
    after: str = ""
    survey: bool = False
    surveys: int = 0
    wanted: Blob = EMPTY
    cache: bool = False
    version: str = ""
    serves: JobId = -1
    priority: int = 0
    local: bool = False
    asked: Resources | None = None
    env: dict[str, str] = {}
    clean_scratch: str = "always"
    doom: float = 0.0

    @property
    def program(self) -> bool:
        """Is a program to be run, without Python? A survey of one takes Python, and runs nothing."""
        return self.form == "command" and not self.survey

    def keeps_scratch(self, reason: Reason) -> bool:
        """Does its scratch directory stay, once it has ended like this?"""
        kept = "on-error" if reason is Reason.FINISHED else "on-success"
        return not self.survey and self.clean_scratch in ("never", kept)


class CommandSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The body (as JSON) of an attempt of form "command": a program that needs no Python to be prepared or collected.

    It runs in a fresh scratch directory, in `cwd` below it. `env` comes on top of the run's environment.
    """

    argv: list[str]
    env: dict[str, str] = {}
    stdin: bytes = b""
    cwd: str = ""


class Place(msgspec.Struct, frozen=True):
    """Where attempts of a run find things on this host: absolute paths, and names for messages.

    `scratch` is the directory below which an attempt may make its own scratch directory, named after its key.
    `deferred` is the one where it leaves what is to be done after it (see `orch.work.deferred`); empty: nobody would.
    """

    store: str
    scratch: str
    host: str
    deferred: str = ""


MAKER = -1
"""In place of the position of a new job: the job whose attempt makes it (or the workflow function)."""


class NewJob(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A job made by an attempt (or the workflow function), not yet numbered.

    `needs` are positions in the list of new jobs that this record is in; an attempt can only refer to jobs that it
    made itself, since all others have become values by the time it runs. In `parents`, `follows` and `serves` a
    position may also be `MAKER`: whoever makes the job. The rest is as in the event `added`.
    """

    kind: str
    name: str = ""
    needs: list[int] = []
    parents: list[int] = []
    follows: list[int] = []
    serves: int | None = None
    form: str = "fork"
    body: Blob = EMPTY
    wanted: Blob = EMPTY
    resources: Resources = Resources()
    retries: int = -1  # -1: the run's default
    retry: Retry = Retry()
    checkpoint: bool = False
    cache: bool | None = None  # None: the run's setting says
    version: str = ""
    priority: int = 0
    local: bool = False
    preemptible: bool | None = None  # None: as `resources` says, or the run's default


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one attempt left behind.

    `reason` FINISHED is success, and only then `value`, `refs`, `alias`, `jobs` and `files` mean something.
    `refs` are positions in `jobs`. `alias`: the value is exactly the job `jobs[refs[0]]`, and `value` is empty.
    `message` one line for people: "ValueError: bad header" or "exit code 3".
    `errors`  of a body that raised: the exception's class and its bases, as "package.module.Name", the class first.
    `warnings` lines for the user (jobs made and never used …).
    `resources`, `call`: of a survey.
    """

    key: str
    reason: Reason
    exit_code: int | None = None
    signal: int = 0
    message: str = ""
    errors: list[str] = []
    value: Blob = EMPTY
    refs: list[int] = []
    alias: bool = False
    jobs: list[NewJob] = []
    files: list[StoredFile] = []
    warnings: list[str] = []
    resources: Resources | None = None
    call: Call | None = None
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY
    host: str = ""
    ended: str = ""


# What running attempts say --------------------------------------------------------------------------------------


class Note(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", tag="note", gc=False):
    """What a running attempt says: an annotation (`name`, `value`), or a line of log (`name` is the stream).

    Or that a service is up: then `blob` is the pickled value that its `start` returned, durable if it is a file.
    """

    key: str
    kind: str  # "annotate", "log" or "up"
    name: str = ""
    value: Any = None
    level: str = ""
    blob: Blob = EMPTY


class Plan(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the workflow function returned and which jobs it made; fields as in `Outcome`.

    `jobs` of a large plan are made anew each time that they are looked at (`orch.manyjobs`).
    """

    value: Blob = EMPTY
    refs: list[int] = []
    alias: bool = False
    jobs: Sequence[NewJob] = []
    files: list[StoredFile] = []
    warnings: list[str] = []
