"""The state of a run: one `Job` row for each job, and what must be found without looking at all of them.

Changed by `orch.state.fold.apply` only. Whatever has to be known in a step of the leader is kept as a count or an
index here, so that a step costs what has changed and not what there is.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from orch.bus.events import Call, Created, JobId, Planned, Resources, Retry, Usage
from orch.state.law import JobState

WORKFLOW: JobId = 0
"""The job id that stands for the workflow function: its value is the run's result."""


DEFAULT_RESOURCES = Resources()
DEFAULT_RETRY = Retry()
NONE: list[JobId] = []
"""No jobs: shared by all rows that have none, and never changed."""


class Job:
    """One row. Times are the log's (UTC, ISO 8601) by name of the state that was entered."""

    __slots__ = (
        "adapter", "added_seq", "after", "alias", "annotations", "attempt", "barred", "because", "by", "cache",
        "charged", "checkpoint", "children", "doomed", "exit_code", "external_id", "first", "followers", "follows",
        "form", "free", "holders", "host", "hurt", "id", "key", "kind", "lame", "link", "local", "made", "message",
        "missing", "name", "needs", "open", "opened", "output_seq", "over", "parents", "pending", "pid", "priority",
        "reason", "refs", "resources", "retries", "retry", "serves", "serving", "signal", "state", "surveyed",
        "times", "told", "unsettled", "unwanted", "usage", "users", "value_seq", "valued", "wanted",
    )  # fmt: skip

    def __init__(self, job: JobId, kind: str, name: str, added_seq: int) -> None:  # noqa: PLR0915 - a field each
        self.id = job
        self.kind = kind
        self.name = name
        self.added_seq = added_seq  # event that has the body
        self.state = JobState.ADDED
        self.by: JobId = WORKFLOW
        self.form = "fork"
        self.resources = DEFAULT_RESOURCES
        self.retries = 0
        self.retry = DEFAULT_RETRY
        self.checkpoint = False
        self.priority = 0
        self.local = False
        # What goes before it.
        self.needs = NONE  # whose values the body takes
        self.parents = NONE  # whose child it is; of a service: the services that must be up first
        self.follows = NONE  # whose follow-on it is
        self.serves: JobId = -1  # of a service: whose successors it is for
        self.missing = 0  # how many of all these are not there yet
        self.doomed = 0  # how many of them (later: of `refs`) never will be
        self.because: JobId = WORKFLOW  # the failed job for whose sake this one is skipped, or not done
        # Its value.
        self.refs = NONE  # jobs that stand in it
        self.pending = 0  # how many of them have no value yet
        self.valued = False  # it is known, with all that stands in it
        self.alias = False  # it is that of refs[0]; once that is known, its `value_seq` and `refs` are here
        self.value_seq = 0  # event that has it
        self.users = NONE  # jobs that wait for it before they can start; of a service: all that need it
        self.holders = NONE  # jobs in whose values it stands, while it is not known
        # What is below it.
        self.first: JobId = 0  # the first of the jobs that its latest attempt made
        self.made = 0  # how many those are
        self.children = NONE  # jobs that wait for its body, and its services
        self.followers = NONE  # jobs that wait for its children and all below them
        self.opened = False  # its children may start
        self.over = False  # its children, and all below them, are done
        self.open = 0  # how many of its children are not done
        self.unsettled = 0  # in how many of its children and follow-ons, or below them, something is left to do
        self.serving = 0  # how many of its services are not over
        self.hurt = 0  # how many of its children, follow-ons and services cannot become done
        self.lame = 0  # how many of its children cannot
        self.barred = 0  # how many of its services cannot
        self.told = 0  # what the jobs around it have been told of it (`orch.state.graph`)
        # The attempts.
        self.attempt = 0  # number of the latest one
        self.charged = 0  # tries used up
        self.free = 0  # attempts that ended uncharged, one after the other
        self.key = ""
        self.adapter = ""
        self.external_id = ""
        self.host = ""
        self.pid = 0
        self.after: JobId = 0  # the live link of a chain in whose place it runs
        self.link: JobId = 0  # the live link of a chain that runs in its place afterwards
        self.unwanted: JobId = 0  # the checkpoint that waits for the end of this attempt
        self.wanted = False  # what it asks for depends on values
        self.cache = False  # its value may be that of an equal earlier call
        self.surveyed = False  # that is known
        # What the latest attempt left.
        self.output_seq = 0  # event that has the captured output
        self.exit_code: int | None = None
        self.signal = 0
        self.reason = ""
        self.message = ""
        self.usage: Usage | None = None
        self.annotations: dict[str, Any] | None = None
        self.times: dict[JobState, str] = {}

    @property
    def label(self) -> str:
        """How messages name the job: "fib(3) [17]"."""
        return f"{self.name or self.kind} [{self.id}]"

    @property
    def lane(self) -> str:
        """Which limits hold for it: "job", "local", "service" or "preemptible service"."""
        if self.form == "service":
            return "preemptible service" if self.resources.preemptible else "service"
        return "local" if self.local else "job"

    @property
    def survey(self) -> bool:
        """Is its next attempt a survey?"""
        return (self.wanted or self.cache) and not self.surveyed


class Queue:
    """Jobs that are ready: by priority, and within one priority services before others, else first come first served.

    Each lane has limits of its own, and none of them hides what is behind it in another.
    """

    LANES = ("service", "preemptible service", "local", "job")

    def __init__(self) -> None:
        # A plain dict would be walked, at each look at its first entries, over all that were taken from its front.
        self._lanes: dict[tuple[int, str], OrderedDict[JobId, None]] = {}

    def add(self, row: Job) -> None:
        """Put a job at the end of its lane."""
        key = (row.priority, row.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = OrderedDict()
        lane[row.id] = None

    def discard(self, row: Job) -> None:
        """Take a job out, if it is there."""
        key = (row.priority, row.lane)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.pop(row.id, None)
            if not lane:
                del self._lanes[key]

    def take(self, room: int, rooms: dict[str, int]) -> list[JobId]:
        """The first `room` jobs, with no more of each lane than `rooms` says (what it does not name is not bounded)."""
        found: list[JobId] = []
        for key in self._order():
            most = min(room - len(found), rooms.get(key[1], room))
            if most > 0:
                taken = list(itertools.islice(self._lanes[key], most))
                if key[1] in rooms:
                    rooms[key[1]] -= len(taken)
                found += taken
        return found

    def _order(self) -> list[tuple[int, str]]:
        if len(self._lanes) < 2:
            return list(self._lanes)
        return sorted(self._lanes, key=lambda key: (-key[0], self.LANES.index(key[1])))

    def __iter__(self) -> Iterator[JobId]:
        for key in self._order():
            yield from self._lanes[key]

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __contains__(self, job: object) -> bool:
        return any(job in lane for lane in self._lanes.values())


class State:
    """A run as its log tells it, up to and including event `seq`."""

    def __init__(self) -> None:
        self.seq = 0
        self.time = ""
        self.epoch = 0
        self.leader: tuple[str, int, str] = ("", 0, "")  # host, pid, since when
        self.created: Created | None = None
        self.adjusted: dict[str, Any] = {}  # settings that were changed since
        self.bundle = ""
        self.planned: Planned | None = None
        self.jobs: dict[JobId, Job] = {}
        self.next_job: JobId = 1
        self.counts: dict[JobState, int] = dict.fromkeys(JobState, 0)
        # Jobs that are ready stand in exactly one of these three.
        self.ready = Queue()
        self.delayed: dict[JobId, tuple[str, float]] = {}  # backing off: since when, for how many seconds
        self.surveyed: dict[JobId, Call] = {}  # has their call been made before?
        self.live: dict[JobId, None] = {}
        self.lanes: dict[str, int] = dict.fromkeys(Queue.LANES, 0)  # live attempts in each, links of chains left out
        self.links = 0  # live links of chains that wait for the one before them
        self.stale: dict[JobId, JobId] = {}  # live attempts to be ended as lost: the service (or link) that they lost
        self.unwanted: dict[JobId, None] = {}  # live attempts below checkpoints that run again
        self.failed: dict[JobId, None] = {}
        self.rewinds: dict[JobId, JobId] = {}  # checkpoints that must run again: what has failed
        self.services: dict[JobId, list[JobId]] = {}  # of a job
        self.calls: dict[JobId, Call] = {}  # what jobs that may be reused were found to call
        self.called: list[JobId] = []  # those of them that are done, in order
        self.idle: dict[JobId, None] = {}  # jobs whose services are not needed any more
        self.keeping: dict[JobId, set[JobId]] = {}  # jobs with files for a while: who may still need these
        self.removable: dict[JobId, None] = {}  # … nobody any more
        self.provisional: dict[tuple[JobId, int], list[JobId]] = {}
        self.workflow = Job(WORKFLOW, "workflow", "", 0)
        self.paused = False
        self.stopping = False
        self.cancelling = False
        self.abandoned = ""  # why the run was given up
        self.restarts = 0
        self.outcome = ""  # of `Ended`
        self.closed = ""  # of `Closed`
        self.warnings: list[str] = []

    def row(self, job: JobId) -> Job:
        """The row of a job, or of the workflow itself."""
        return self.workflow if job == WORKFLOW else self.jobs[job]

    @property
    def ending(self) -> bool:
        """Is everything to be ended for good?"""
        return self.cancelling or bool(self.abandoned)

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
