"""What the end of an attempt means for its job: one table, the same on every adapter.

| reason         | is a try charged                  | what changes for the next attempt               |
|----------------|-----------------------------------|-------------------------------------------------|
| FAILED         | yes                               |                                                 |
| MEMLIMIT       | yes                               | memory, twice as much (`memory_escalation`)     |
| MAXJOBDURATION | yes                               | wall time, if `walltime_escalation` says so     |
| ERROR          | yes; never begun: no, 5 times     |                                                 |
| PARTITION      | yes                               |                                                 |
| LOST           | no, `--max-lost` times            |                                                 |
| PREEMPTED      | no, `--max-lost` times            |                                                 |
| MISSING        | no, `--max-lost` times            |                                                 |
| KILLED         | no, `--max-lost` times            | (by a stop; a cancel makes the job cancelled)   |

A job has `retries` + 1 tries. Uncharged ends are bounded all the same, unless the user says "unlimited", so that a job
which kills its host cannot keep a run going for ever. Before the next attempt comes a back-off: after the first charged
end 2 s, then three times as long each time; after uncharged ones the same, but for the first, which is tried again at
once; with jitter, and an hour at most. A stop is followed by none. What loses the service that it uses is LOST, and is
tried again when the service is back.
"""

from __future__ import annotations

import enum
import hashlib

import msgspec

from orch.attempt import Outcome, Reason
from orch.bus.events import Resources
from orch.patterns import found
from orch.state.law import JobState
from orch.state.model import Job

UNCHARGED = frozenset({Reason.LOST, Reason.PREEMPTED, Reason.MISSING, Reason.KILLED})

UNLIMITED = -1

MOST_REFUSALS = 5
"""How often an attempt may end before it began (it could not be submitted, or started) until that is charged."""

FACTOR = 3.0
LONGEST_WAIT = 3600.0
"""Seconds."""

LONGEST_TIME = 2.0**31
"""Seconds: what a wall time is raised to at most."""


class Rules(msgspec.Struct, frozen=True):
    """What holds for jobs that do not say, and for the whole run.

    `retries`, `backoff` (seconds), `most_lost` (-1: unlimited), `resources`: as in the run's settings
    `cache`        which jobs may take the value of an equal earlier call: "marked", "all", "off"
    `most_memory`  bytes: more than that no attempt can be given (0: nobody knows)
    """

    retries: int = 0
    backoff: float = 2.0
    most_lost: int = 100
    resources: Resources = Resources()
    cache: str = "marked"
    most_memory: int = 0


class Verdict(enum.Enum):
    """What follows from the end of an attempt."""

    RETRY_FREE = "retry, uncharged"
    RETRY = "retry, charged"
    FAIL = "fail"


class Judgement(msgspec.Struct, frozen=True):
    """`wait`: seconds of back-off. `resources`: what the next attempt asks for, if that changes."""

    verdict: Verdict
    wait: float = 0.0
    resources: Resources | None = None


FAIL = Judgement(Verdict.FAIL)


def judge(job: Job, outcome: Outcome, rules: Rules) -> Judgement:
    """What the end of the live attempt of `job` (not FINISHED) leads to."""
    if any(matches(token, outcome) for token in job.retry.never):
        return FAIL
    if _is_free(job, outcome.reason, rules):
        return Judgement(Verdict.RETRY_FREE, _free_wait(job, outcome.reason, rules))
    wanted = not job.retry.on or any(matches(token, outcome) for token in job.retry.on)
    if not wanted or job.charged >= job.retries:
        return FAIL
    return Judgement(Verdict.RETRY, back_off(job, job.charged, rules), _raised(job, outcome.reason, rules))


def _is_free(job: Job, reason: Reason, rules: Rules) -> bool:
    if reason in UNCHARGED:
        return rules.most_lost == UNLIMITED or job.free < rules.most_lost
    never_began = job.state in (JobState.SUBMITTING, JobState.QUEUED)
    return reason is Reason.ERROR and never_began and job.free < MOST_REFUSALS


def matches(token: str, outcome: Outcome) -> bool:
    """Does an end fit to one of the descriptions in `orch.bus.events.Retry`?"""
    kind, _, what = token.partition(":")
    if kind == "exit":
        return outcome.exit_code is not None and str(outcome.exit_code) == what
    if kind == "reason":
        return outcome.reason == what
    if kind == "error":
        return any(name in (what, f"builtins.{what}") for name in outcome.errors)
    return kind == "message" and found(what, outcome.message)


def back_off(job: Job, before: int, rules: Rules) -> float:
    """Seconds to wait, after `before` earlier ends of the same sort. The jitter follows from the attempt's key."""
    base = rules.backoff if job.retry.backoff < 0 else job.retry.backoff
    jitter = 0.75 + chance(job.key) / 2
    return min(base * FACTOR ** min(before, 20) * jitter, LONGEST_WAIT)


def chance(text: str) -> float:
    """A number from 0 to 1, as good as random, that follows from a text. (CRCs of similar texts are similar.)"""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def _free_wait(job: Job, reason: Reason, rules: Rules) -> float:
    if reason is Reason.KILLED:
        return 0.0
    if reason is Reason.ERROR:
        return back_off(job, job.free, rules)
    return back_off(job, job.free - 1, rules) if job.free else 0.0


def _raised(job: Job, reason: Reason, rules: Rules) -> Resources | None:
    """More of what was not enough."""
    asked, retry = job.resources, job.retry
    if reason is Reason.MEMLIMIT and asked.memory and retry.memory_factor > 1:
        cap = retry.memory_cap or rules.most_memory or 1 << 62
        return msgspec.structs.replace(
            asked, memory=max(asked.memory, int(min(asked.memory * retry.memory_factor, cap)))
        )
    if reason is Reason.MAXJOBDURATION and asked.walltime and retry.time_factor > 1:
        longest = retry.time_cap or LONGEST_TIME
        return msgspec.structs.replace(
            asked, walltime=max(asked.walltime, min(asked.walltime * retry.time_factor, longest))
        )
    return None
