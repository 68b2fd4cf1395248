"""What the end of an attempt means for its job: one table, the same on every adapter.

| reason         | is a try charged | why                                                        |
|----------------|------------------|------------------------------------------------------------|
| FAILED         | yes              | the body raised, or the program exited non-zero            |
| MEMLIMIT       | yes              | it used more memory than it asked for                      |
| MAXJOBDURATION | yes              | it ran longer than its wall time                           |
| ERROR          | yes              | we or the batch system could not run it                    |
| PARTITION      | yes              | it ended well, but its outcome cannot be read              |
| LOST           | no, 100 times    | the host or the agent went away                            |
| PREEMPTED      | no, 100 times    | the batch system took the place away                       |
| MISSING        | no, 100 times    | the batch system has forgotten it                          |
| KILLED         | no, 100 times    | it was ended by a stop (a cancel makes the job cancelled)  |

A job has `retries` + 1 tries. Uncharged ends are bounded all the same, so that a job which kills its host cannot
keep a run going for ever.
"""

from __future__ import annotations

import enum

from orch.attempt import Reason
from orch.state.model import Job

FREE_ENDS = 100
"""How often an attempt may end uncharged before it is charged all the same."""

UNCHARGED = frozenset({Reason.LOST, Reason.PREEMPTED, Reason.MISSING, Reason.KILLED})


class Verdict(enum.Enum):
    """What follows from the end of an attempt."""

    RETRY_FREE = "retry, uncharged"
    RETRY = "retry, charged"
    FAIL = "fail"


def judge(job: Job, reason: Reason) -> Verdict:
    """What the end of the live attempt of `job` for `reason` (not FINISHED) leads to."""
    if reason in UNCHARGED and job.free < FREE_ENDS:
        return Verdict.RETRY_FREE
    return Verdict.RETRY if job.charged < job.retries else Verdict.FAIL
