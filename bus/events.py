"""The events of a run: facts, in the past tense, immutable.

An event is a small record that says one thing which has happened. The log numbers it, dates it and makes it
durable; the fold (`orch.state`) turns a sequence of them into a state. Nothing else changes a run.

Each class has a tag (its `type` in the log) and a version `v`. Fields may be added with a default; any other change
is a new version with an upcaster in `orch.bus.codec`. Fields at their default are not written.
"""

from __future__ import annotations

from typing import Any

import msgspec

JobId = int
"""Number of a job within its run, from 1, in the order in which jobs were added. 0 stands for the workflow itself."""


class Blob(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Some bytes: inline when small (up to `INLINE_LIMIT`), else a file of the store, already durable.

    `data`    the bytes themselves, when inline
    `file`    else: path of the file, relative to the store's root
    `size`    length in bytes of what is kept (both forms)
    `digest`  of a file: "sha256:…"; empty for inline data and for captured output
    `cut`     bytes that were left out in the middle (captured output only)
    """

    data: bytes = b""
    file: str = ""
    size: int = 0
    digest: str = ""
    cut: int = 0


INLINE_LIMIT = 64 * 1024
"""Bytes up to which values and captured output travel inside events."""

EMPTY = Blob()


class Resources(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt asks for. Memory and disk in bytes, walltime in seconds; 0 means: not limited, not counted."""

    cores: float = 1.0
    memory: int = 0
    disk: int = 0
    walltime: float = 0.0


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt used: wall and CPU time in seconds, peak private memory and scratch in bytes (0: not known)."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    memory: int = 0
    disk: int = 0


class StoredFile(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A file or directory that an attempt wrote to the store. `path` is relative to the store's root."""

    path: str
    size: int = 0
    digest: str = ""
    directory: bool = False


class Predecessor(msgspec.Struct, frozen=True, gc=False):
    """Where the previous epoch's segment ends: what lies beyond is void."""

    segment: str
    seq: int
    length: int
    crc: str


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """The envelope, stamped by the log when the event is appended."""

    seq: int = 0
    time: str = ""
    epoch: int = 0
    group: int = 0
    v: int = 1


# The run ---------------------------------------------------------------------------------------------------------


class Opened(Event, frozen=True, tag="opened", gc=False):
    """A leader began an epoch. The first line of every segment.

    `durability` of this segment: "always", or "relaxed" (then a power cut may leave holes before its end).
    """

    run: str
    host: str
    pid: int
    boot: str = ""
    user: str = ""
    version: str = ""
    durability: str = "always"
    after: Predecessor | None = None


class Created(Event, frozen=True, tag="created", gc=False):
    """The run exists. `source` is the workflow as the user named it, `options` the workflow's arguments as text."""

    run: str
    name: str = ""
    tags: dict[str, str] = {}
    source: str = ""
    function: str = ""
    options: dict[str, str] = {}
    bundle: str = ""
    adapter: str = "local"
    cwd: str = ""
    settings: dict[str, Any] = {}


class Recoded(Event, frozen=True, tag="recoded", gc=False):
    """The workflow's code was read again at a restart, and differs."""

    bundle: str
    previous: str


class Planned(Event, frozen=True, tag="planned", gc=False):
    """The workflow function has returned: commits the `count` jobs added by it, and its value.

    `refs` are the jobs that stand in the value, in the order in which the pickled value numbers them.
    """

    count: int
    value: Blob = EMPTY
    refs: list[JobId] = []
    alias: bool = False
    files: list[StoredFile] = []


class Requested(Event, frozen=True, tag="requested", gc=False):
    """Somebody wished: `what` is one of stop, cancel, pause, resume. `job` 0: the whole run."""

    what: str
    job: JobId = 0
    by: str = ""


class Warned(Event, frozen=True, tag="warned", gc=False):
    """Something that a user should know and that changes no state."""

    message: str
    job: JobId = 0


class Restarted(Event, frozen=True, tag="restarted", gc=False):
    """The run is carried on: failed and cancelled jobs get fresh tries; what was skipped for their sake waits again."""

    by: str = ""


class Ended(Event, frozen=True, tag="ended", gc=False):
    """Nothing is left to do. `outcome` is one of succeeded, failed, cancelled."""

    outcome: str


class Closed(Event, frozen=True, tag="closed", gc=False):
    """The leader left in order: the last line of a segment that was closed. `reason`: ended, stopped, error …"""

    reason: str


# A job -----------------------------------------------------------------------------------------------------------


class Added(Event, frozen=True, tag="added", gc=False):
    """A new job; provisional until the `planned` or `succeeded` of the attempt that made it.

    `by`, `attempt`  who made it (0: the workflow function)
    `needs`          jobs whose values it takes, in the order in which its body numbers them, without repeats
    `form`           how an attempt runs: fork, pool (both Python) or command
    """

    job: JobId
    kind: str
    name: str = ""
    by: JobId = 0
    attempt: int = 0
    needs: list[JobId] = []
    form: str = "fork"
    body: Blob = EMPTY
    resources: Resources = Resources()
    retries: int = 0


class Submitting(Event, frozen=True, tag="submitting", gc=False):
    """The intention to hand attempt `attempt` to the adapter, durable before the adapter hears of it."""

    job: JobId
    attempt: int
    key: str
    adapter: str = ""


class Submitted(Event, frozen=True, tag="submitted", gc=False):
    """The adapter took the attempt; `id` is its name there."""

    job: JobId
    attempt: int
    id: str = ""


class Running(Event, frozen=True, tag="running", gc=False):
    """The attempt's body began, on `host` as process `pid` (0: not known) at `since` (UTC, ISO 8601)."""

    job: JobId
    attempt: int
    host: str = ""
    pid: int = 0
    since: str = ""


class Annotated(Event, frozen=True, tag="annotated", gc=False):
    """A running attempt said something about itself."""

    job: JobId
    attempt: int
    name: str
    value: Any = None


class Logged(Event, frozen=True, tag="logged", gc=False):
    """A running attempt logged a line by `context().log`; `stream` by `log_stream(name)`."""

    job: JobId
    attempt: int
    text: str
    level: str = "info"
    stream: str = ""


class Succeeded(Event, frozen=True, tag="succeeded", gc=False):
    """The attempt's outcome is committed: value, the `added` jobs that it made, files; all at once.

    `refs`   jobs that stand in the value, in the order in which the pickled value numbers them
    `alias`  the value is exactly the job `refs[0]` (a tail call); `value` is then empty
    """

    job: JobId
    attempt: int
    value: Blob = EMPTY
    refs: list[JobId] = []
    alias: bool = False
    added: int = 0
    files: list[StoredFile] = []
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY


class Retrying(Event, frozen=True, tag="retrying", gc=False):
    """The attempt ended without success and the job will be tried again. `charged`: it cost one of its tries."""

    job: JobId
    attempt: int
    reason: str
    charged: bool = False
    exit_code: int | None = None
    signal: int = 0
    message: str = ""
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY


class Failed(Event, frozen=True, tag="failed", gc=False):
    """The attempt ended without success and no try is left. What needs the job is skipped from here on."""

    job: JobId
    attempt: int
    reason: str
    exit_code: int | None = None
    signal: int = 0
    message: str = ""
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY


class Cancelled(Event, frozen=True, tag="cancelled", gc=False):
    """The job was ended on request, confirmed by the adapter where an attempt was live (`attempt` 0: none was)."""

    job: JobId
    attempt: int = 0
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY


KNOWN: tuple[type[Event], ...] = (
    Opened,
    Created,
    Recoded,
    Planned,
    Requested,
    Warned,
    Ended,
    Closed,
    Added,
    Submitting,
    Submitted,
    Running,
    Annotated,
    Logged,
    Succeeded,
    Retrying,
    Failed,
    Cancelled,
    Restarted,
)
"""Every event type that this version writes."""
