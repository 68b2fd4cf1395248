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


class Accelerator(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """So many devices of one kind ("gpu", "fpga" …), of one model or brand where that matters ("nvidia-tesla-k80")."""

    kind: str = "gpu"
    count: int = 1
    model: str = ""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt asks for. Memory and disk in bytes, walltime in seconds; 0 means: not limited, not counted.

    `preemptible`: it may run where the batch system can take its place away.
    `queue`, `backend`: of batch systems, the queue or partition, and settings that orch passes through as they are.
    """

    cores: float = 1.0
    memory: int = 0
    disk: int = 0
    walltime: float = 0.0
    accelerators: tuple[Accelerator, ...] = ()
    preemptible: bool = False
    queue: str = ""
    backend: tuple[tuple[str, str], ...] = ()


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a job is tried again.

    `backoff`        seconds before the second try, three times as long before each further one; -1: the run's
    `on`             ends after which it is tried again, if not empty; `never`: after which it is not. Each is one of
                     "exit:3", "reason:MEMLIMIT", "error:package.Name" (an exception or one of its bases) and
                     "message:PATTERN" (a regular expression, searched for)
    `memory_factor`  what memory is multiplied with after MEMLIMIT (1: not raised), up to `memory_cap` bytes (0: up to
                     what the adapter can give); `time_factor`, `time_cap` (seconds): likewise for MAXJOBDURATION
    """

    backoff: float = -1.0
    on: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    memory_factor: float = 2.0
    memory_cap: int = 0
    time_factor: float = 1.0
    time_cap: float = 0.0


class Call(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a call is, for the call cache: equal calls have equal digests.

    `digest`  of everything below, "sha256:…"
    `code`    digest of the bundle, or "version:…" where the author promises
    `parts`   digest of each argument, by name, to tell what differs from another call
    """

    digest: str
    code: str = ""
    parts: dict[str, str] = {}


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A value and what stands in it: reference number k in the pickle is the value `refs[k]` of a list of these."""

    value: Blob
    refs: list[int] = []


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt used: wall and CPU time in seconds, peak private memory and scratch in bytes (0: not known)."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    memory: int = 0
    disk: int = 0


class StoredFile(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A file or directory that an attempt wrote to the store. `path` is relative to the store's root.

    `keep`: how long it is kept. Empty: as long as the run. "successors": until the job, all below it, and what takes
    its value are done.
    """

    path: str
    size: int = 0
    digest: str = ""
    directory: bool = False
    keep: str = ""


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


class Abandoned(Event, frozen=True, tag="abandoned", gc=False):
    """The run is given up, for the reason in `message`: what has not begun is cancelled, what is live is ended.

    `why` is one of "deadlock" (only services run, and what needs them can never get room) and "first failure".
    """

    why: str
    message: str


class Adjusted(Event, frozen=True, tag="adjusted", gc=False):
    """Settings were changed while the run goes on: those named in `settings`, as they stand in `created`."""

    settings: dict[str, Any]
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
    `parents`        jobs whose child it is: it runs after their bodies, once their services are up. Of a service: the
                     services that must be up first
    `follows`        jobs whose follow-on it is: it runs after all their children and everything below those
    `serves`         of a service: the job whose successors it is for (0: the workflow's). Else -1
    `form`           how an attempt runs: fork, pool (both Python), command, or service (Python, until it is told to
                     stop); group: there is none, its body has run as soon as it could, and its value is `needs[0]`'s
    `wanted`         resources that depend on values: a pickled dict, its references numbered as the body's. Then, or
                     with `cache`, the first attempt is a survey, which finds them out
    `cache`          its value may be taken from an equal earlier call; `version`: the author's word for the code
    `checkpoint`     when something fails below it, all below it is dropped and it runs again
    """

    job: JobId
    kind: str
    name: str = ""
    by: JobId = 0
    attempt: int = 0
    needs: list[JobId] = []
    parents: list[JobId] = []
    follows: list[JobId] = []
    serves: JobId = -1
    form: str = "fork"
    body: Blob = EMPTY
    wanted: Blob = EMPTY
    resources: Resources = Resources()
    retries: int = 0
    retry: Retry = Retry()
    checkpoint: bool = False
    cache: bool = False
    version: str = ""
    priority: int = 0
    local: bool = False


class Submitting(Event, frozen=True, tag="submitting", gc=False):
    """The intention to hand attempt `attempt` to the adapter, durable before the adapter hears of it.

    `after`   a link of a chain: it runs in the place of that job's live attempt, once that has finished and has added
              nothing; else it is void
    `survey`  not the body is run: what the job wants, and what its call is, is found out
    """

    job: JobId
    attempt: int
    key: str
    adapter: str = ""
    after: JobId = 0
    survey: bool = False


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


class Serving(Event, frozen=True, tag="serving", gc=False):
    """A service is up: `value` is what its `start` returned, its credentials."""

    job: JobId
    attempt: int
    value: Blob = EMPTY


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
    `holds`  jobs whose files are kept for a while, and are named in this value
    """

    job: JobId
    attempt: int
    value: Blob = EMPTY
    holds: list[JobId] = []
    refs: list[JobId] = []
    alias: bool = False
    added: int = 0
    files: list[StoredFile] = []
    usage: Usage = Usage()
    stdout: Blob = EMPTY
    stderr: Blob = EMPTY


class Surveyed(Event, frozen=True, tag="surveyed", gc=False):
    """A survey has ended well: what the job asks for, and what its call is (None: it is not to be cached)."""

    job: JobId
    attempt: int
    resources: Resources
    call: Call | None = None
    usage: Usage = Usage()


class Reused(Event, frozen=True, tag="reused", gc=False):
    """A job that has been surveyed takes the final value of an equal earlier call, and does not run.

    `values[0]` is the value; the others stand in it. `run`, `source`: the run and job that it was computed by.
    """

    job: JobId
    run: str
    source: JobId
    values: list[Kept]
    files: list[StoredFile] = []


class Rewound(Event, frozen=True, tag="rewound", gc=False):
    """Something failed for good below the checkpoint `job`: all below it is dropped, and it runs again.

    `failed` is the job that failed. It costs the checkpoint one of its tries. `wait`: seconds of back-off.
    """

    job: JobId
    failed: JobId
    wait: float = 0.0


class Removed(Event, frozen=True, tag="removed", gc=False):
    """Files of a job that nobody can need any more are to be deleted: paths as in `succeeded`."""

    job: JobId
    files: list[str]


class Retrying(Event, frozen=True, tag="retrying", gc=False):
    """The attempt ended without success and the job will be tried again. `charged`: it cost one of its tries.

    `wait`       seconds of back-off before the next attempt
    `resources`  what the next attempt asks for, if that has changed
    """

    job: JobId
    attempt: int
    reason: str
    charged: bool = False
    wait: float = 0.0
    resources: Resources | None = None
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
    Abandoned,
    Adjusted,
    Serving,
    Surveyed,
    Reused,
    Rewound,
    Removed,
)
"""Every event type that this version writes."""
