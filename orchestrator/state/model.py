"""The state of a run: one `Job` row for each job, and what must be found without looking at all of them.

Changed by `orch.state.fold.apply` only. Whatever has to be known in a step of the leader is kept as a count or an
index here, so that a step costs what has changed and not what there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from orch.bus.events import Call, Created, JobId, Planned, Resources, Retry, Usage
from orch.state.law import OVER, JobState
from orch.state.queue import LANES, Queue
from orch.state.table import Table

WORKFLOW: JobId = 0
"""The job id that stands for the workflow function: its value is the run's result."""


DEFAULT_RESOURCES = Resources()
DEFAULT_RETRY = Retry()
Jobs = Any  # a list of job numbers; `NONE` where there are none
NONE: Jobs = ()
"""No jobs: what all rows have that have none."""

SOME = 4096
"""Jobs that are gone through before a look at whether too many rows are unpacked by now."""

MOMENTS = {state: "over_at" if state in OVER else f"{state}_at" for state in JobState}
"""The field of a row that says when a state was entered."""
_PASSED = [state for state in JobState if state not in OVER]


def _short() -> Callable[[str], str]:
    """Names for packed rows, of which there may be millions: numbers. Only the code that has packed one unpacks it."""
    numbers = itertools.count()
    return lambda _: format(next(numbers), "x")


class Job(msgspec.Struct, gc=False, omit_defaults=True, rename=_short()):
    """One row. Times are the log's (UTC, ISO 8601) by name of the state that was entered.

    A struct, because one with so many defaults is made in a fifth of the time that an `__init__` would take. No row
    refers to another but by its number.
    """

    # What it is: as `added` says.
    id: JobId
    kind: str
    name: str
    added_seq: int  # event that has the body
    by: JobId = WORKFLOW
    form: str = "fork"
    needs: Jobs = NONE  # whose values the body takes
    resources: Resources = DEFAULT_RESOURCES
    retries: int = 0
    retry: Retry = DEFAULT_RETRY
    checkpoint: bool = False
    priority: int = 0
    local: bool = False
    added_at: str = ""
    parents: Jobs = NONE  # whose child it is; of a service: the services that must be up first
    follows: Jobs = NONE  # whose follow-on it is
    serves: JobId = -1  # of a service: whose successors it is for
    inside: JobId = WORKFLOW  # the nearest checkpoint by which, or by what that made, it was made
    lane: str = "job"  # which limits hold for it: one of `LANES`
    state: JobState = JobState.ADDED
    missing: int = 0  # how many of the things that go before it are not there yet
    doomed: int = 0  # how many of them (later: of `refs`) never will be
    because: JobId = WORKFLOW  # the failed job for whose sake this one is skipped, or not done
    # Its value.
    refs: Jobs = NONE  # jobs that stand in it
    pending: int = 0  # how many of them have no value yet
    valued: bool = False  # it is known, with all that stands in it
    alias: bool = False  # it is that of refs[0]; once that is known, its `value_seq` and `refs` are here
    value_seq: int = 0  # event that has it
    users: Jobs = NONE  # jobs that wait for it before they can start; of a service: all that need it
    holders: Jobs = NONE  # jobs in whose values it stands, while it is not known
    # What is below it.
    made_from: JobId = 0  # the jobs that its latest attempt made: from this one …
    made_to: JobId = 0  # … up to this one, which is none of them any more
    children: Jobs = NONE  # jobs that wait for its body, and its services
    followers: Jobs = NONE  # jobs that wait for its children and all below them
    opened: bool = False  # its children may start
    over: bool = False  # its children, and all below them, are done
    open: int = 0  # how many of its children are not done
    unsettled: int = 0  # in how many of its children and follow-ons, or below them, something is left to do
    serving: int = 0  # how many of its services are not over
    hurt: int = 0  # how many of its children, follow-ons and services cannot become done
    lame: int = 0  # how many of its children cannot
    barred: int = 0  # how many of its services cannot
    told: int = 0  # what the jobs around it have been told of it (`orch.state.graph`)
    # The attempts.
    attempt: int = 0  # number of the latest one
    charged: int = 0  # tries used up
    free: int = 0  # attempts that ended uncharged, one after the other
    key: str = ""
    adapter: str = ""
    external_id: str = ""
    host: str = ""
    pid: int = 0
    after: JobId = 0  # the live link of a chain in whose place it runs
    link: JobId = 0  # the live link of a chain that runs in its place afterwards
    unwanted: JobId = 0  # the checkpoint that waits for the end of this attempt
    surveys: int = (
        0  # attempts that only found out what it asks for, and what its call is; -1 - n: the next one is, too
    )
    cache: bool = False  # its value may be that of an equal earlier call
    # What the latest attempt left.
    output_seq: int = 0  # event that has the captured output
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    message: str = ""
    usage: Usage | None = None
    annotations: dict[str, Any] | None = None
    # When it was last … (a dict would cost as much as all the rest).
    waiting_at: str = ""
    ready_at: str = ""
    submitting_at: str = ""
    queued_at: str = ""
    running_at: str = ""
    succeeded_at: str = ""
    over_at: str = ""  # in whichever way

    @property
    def times(self) -> dict[JobState, str]:
        """When each state was entered last; of the final ones, the present one."""
        found = {state: getattr(self, MOMENTS[state]) for state in _PASSED}
        if self.state in OVER:
            found[self.state] = self.over_at
        return {state: time for state, time in found.items() if time}

    @property
    def made(self) -> range:
        """The jobs that its latest attempt made."""
        return range(self.made_from, self.made_to)

    @property
    def survey(self) -> bool:
        """Does its next attempt, or the live one, only find out what it asks for, and what its call is?"""
        return self.surveys < 0

    @property
    def surveyed(self) -> int:
        """How many of its attempts did."""
        return self.surveys if self.surveys >= 0 else -1 - self.surveys

    @property
    def label(self) -> str:
        """How messages name the job: "fib(3) [17]"."""
        return f"{self.name or self.kind} [{self.id}]"


class Made(msgspec.Struct):
    """Jobs of one attempt that are not committed yet: their numbers, and which of them are services."""

    jobs: list[JobId] = []
    services: list[JobId] = []


class State(msgspec.Struct, eq=False):
    """A run as its log tells it, up to and including event `seq`.

    All that a log can make true is in these fields, and they are plain data: so a state can be put away (`image`).
    """

    seq: int = 0
    time: str = ""
    epoch: int = 0
    leader: tuple[str, int, str] = ("", 0, "")  # host, pid, since when
    created: Created | None = None
    adjusted: dict[str, Any] = {}  # settings that were changed since
    bundle: str = ""
    planned: Planned | None = None
    jobs: Table = msgspec.field(default_factory=lambda: Table(Job))
    next_job: JobId = 1
    counts: dict[JobState, int] = msgspec.field(default_factory=lambda: dict.fromkeys(JobState, 0))
    # Jobs that are ready stand in exactly one of these three.
    ready: Queue = msgspec.field(default_factory=Queue)
    delayed: dict[JobId, tuple[str, float]] = {}  # backing off: since when, for how many seconds
    surveyed: dict[JobId, Call] = {}  # has their call been made before?
    held: dict[JobId, tuple[str, float]] = {}  # not ready yet, and then to back off for what is left of that
    live: dict[JobId, None] = {}
    lanes: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(LANES, 0))  # live in each, but no links
    links: int = 0  # live links of chains that wait for the one before them
    stale: dict[JobId, JobId] = {}  # live attempts to be ended as lost: the service (or link) that they lost
    unwanted: dict[JobId, None] = {}  # live attempts below checkpoints that run again
    failed: dict[JobId, None] = {}
    rewinds: dict[JobId, JobId] = {}  # checkpoints that must run again: what has failed
    services: dict[JobId, list[JobId]] = {}  # of a job
    calls: dict[JobId, Call] = {}  # what jobs that may be reused were found to call
    called: list[JobId] = []  # those of them that are done, in order
    idle: dict[JobId, None] = {}  # jobs whose services are not needed any more
    keeping: dict[JobId, set[JobId]] = {}  # jobs with files for a while: who may still need these
    kept: dict[JobId, list[str]] = {}  # … the paths of these
    needing: dict[JobId, list[JobId]] = {}  # the other way round: whose files a job may still need
    removable: dict[JobId, None] = {}  # … nobody any more
    removed: list[int] = []  # events that say what is deleted
    provisional: dict[tuple[JobId, int], Made] = {}  # by who made them, in which attempt
    workflow: Job = msgspec.field(default_factory=lambda: Job(WORKFLOW, "workflow", "", 0))
    paused: bool = False
    stopping: bool = False
    cancelling: bool = False
    abandoned: str = ""  # why the run was given up
    restarts: int = 0
    restarted: int = 0  # event of the last one
    outcome: str = ""  # of `Ended`
    closed: str = ""  # of `Closed`
    warnings: list[str] = []

    def row(self, job: JobId) -> Job:
        """The row of a job, or of the workflow itself."""
        return self.workflow if job == WORKFLOW else self.jobs[job]

    @property
    def ending(self) -> bool:
        """Is everything to be ended for good?"""
        return self.cancelling or bool(self.abandoned)

    def cool(self) -> None:
        """Pack what has been let alone for long, if it is much."""
        self.jobs.cool()

    @property
    def active(self) -> int:
        """Jobs for which something is left to do."""
        counts = self.counts
        return (
            counts[JobState.WAITING]
            + counts[JobState.READY]
            + counts[JobState.SUBMITTING]
            + counts[JobState.QUEUED]
            + counts[JobState.RUNNING]
        )
