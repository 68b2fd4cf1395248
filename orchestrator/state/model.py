"""The state of a run: one `Job` row for each job, and what must be found without looking at all of them.

Changed by `orch.state.fold.apply` only. Whatever has to be known in a step of the leader is kept as a count or an
index here, so that a step costs what has changed and not what there is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from orch.bus.events import Created, JobId, Planned, Resources, Usage
from orch.state.law import JobState

WORKFLOW: JobId = 0
"""The job id that stands for the workflow function: its value is the run's result."""


DEFAULT_RESOURCES = Resources()
NONE: list[JobId] = []
"""No jobs: shared by all rows that have none, and never changed."""


class Job:
    """One row. Times are the log's (UTC, ISO 8601) by name of the state that was entered."""

    __slots__ = (
        "adapter", "added_seq", "alias", "annotations", "attempt", "because", "by", "charged", "doomed", "exit_code",
        "external_id", "form", "free", "host", "id", "key", "kind", "message", "missing", "name", "needs",
        "output_seq", "pending", "pid", "reason", "refs", "resources", "retries", "signal", "state", "times", "usage",
        "users", "value_seq",
    )  # fmt: skip

    def __init__(self, job: JobId, kind: str, name: str, added_seq: int) -> None:
        self.id = job
        self.kind = kind
        self.name = name
        self.added_seq = added_seq  # event that has the body
        self.state = JobState.ADDED
        self.by: JobId = WORKFLOW
        self.form = "fork"
        self.resources = DEFAULT_RESOURCES
        self.retries = 0
        # The graph.
        self.needs = NONE  # whose values the body takes
        self.missing = 0  # how many of them are not done
        self.refs = NONE  # jobs that stand in the value
        self.pending = 0  # how many of them are not done
        self.users = NONE  # jobs that have this one in `needs` or `refs`
        self.doomed = 0  # how many of `needs` and `refs` cannot become done
        self.because: JobId = WORKFLOW  # the failed job for whose sake this one is skipped
        self.alias = False  # the value is that of refs[0]; once that one is done, its `value_seq` and `refs` are here
        # The attempts.
        self.attempt = 0  # number of the latest one
        self.charged = 0  # tries used up
        self.free = 0  # attempts that ended uncharged
        self.key = ""
        self.adapter = ""
        self.external_id = ""
        self.host = ""
        self.pid = 0
        # What the latest attempt left.
        self.value_seq = 0  # event that has the value
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


class State:
    """A run as its log tells it, up to and including event `seq`."""

    def __init__(self) -> None:
        self.seq = 0
        self.time = ""
        self.epoch = 0
        self.leader: tuple[str, int, str] = ("", 0, "")  # host, pid, since when
        self.created: Created | None = None
        self.bundle = ""
        self.planned: Planned | None = None
        self.jobs: dict[JobId, Job] = {}
        self.next_job: JobId = 1
        self.counts: dict[JobState, int] = dict.fromkeys(JobState, 0)
        # In the order in which they became ready. A plain dict would be walked, at each look at its first entries, over
        # all that were taken from its front before.
        self.ready: OrderedDict[JobId, None] = OrderedDict()
        self.live: dict[JobId, None] = {}
        self.failed: dict[JobId, None] = {}
        self.provisional: dict[tuple[JobId, int], list[JobId]] = {}
        self.workflow = Job(WORKFLOW, "workflow", "", 0)
        self.paused = False
        self.stopping = False
        self.cancelling = False
        self.restarts = 0
        self.outcome = ""  # of `Ended`
        self.closed = ""  # of `Closed`
        self.warnings: list[str] = []

    def row(self, job: JobId) -> Job:
        """The row of a job, or of the workflow itself."""
        return self.workflow if job == WORKFLOW else self.jobs[job]

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
