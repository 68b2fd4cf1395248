"""How an attempt has ended that has left no outcome of its own, or one that does not say why. Pure.

Who reads this table beside `orch.state.policy`, which says what each reason costs, should find it fair:

| the batch system says              | a worker had it                         | none had it                         |
|------------------------------------|-----------------------------------------|-------------------------------------|
| anything, and we asked             | KILLED                                  | KILLED                              |
| FINISHED                           | PARTITION: its outcome is not here      | ERROR: its worker did not begin     |
| FAILED                             | FAILED; exit code 70: ERROR             | ERROR: its worker did not begin     |
| KILLED, by somebody else           | FAILED                                  | FAILED                              |
| MEMLIMIT, LOST, PREEMPTED …        | that                                    | that                                |
| nothing: it has forgotten it       | MISSING                                 | MISSING                             |

A worker that was told to end, and not by us, has left an outcome that says so, and the batch system is asked why:

| the batch system says              |                                                                               |
|------------------------------------|-------------------------------------------------------------------------------|
| FINISHED or nothing, after a warning that time is up | MAXJOBDURATION                                              |
| FINISHED, FAILED, KILLED, ERROR    | FAILED: somebody else has ended it                                            |
| MEMLIMIT, LOST, PREEMPTED …        | that                                                                          |
| nothing                            | LOST                                                                          |

Somebody who ends a job in the queue by hand wants it to end. If that cost nothing, it would come back at once; and
there are batch systems on which that cannot be told from a program that is killed.
"""

from __future__ import annotations

import re
import signal

from orch.adapters.batch.dialect import End
from orch.attempt import Outcome, Reason
from orch.worker.spool import Claim

CANNOT_RUN = 70
"""The exit code of a worker that could not run its task (`orch.worker`)."""

TIME_IS_UP = (signal.SIGXCPU, signal.SIGUSR1)
"""What is sent as a warning before a time limit, where a site or user wants one: queue_conf(5) of Grid Engine (s_cpu,
s_rt), and what the dialects ask for. Who heeds it ends in time, and to the batch system all looks well."""

MOST_LINES = 3
MOST_CHARACTERS = 600

_ON_REQUEST = "ended on request"


def on_request(key: str, host: str = "") -> Outcome:
    """The end of an attempt that the leader wanted to end."""
    return Outcome(key=key, reason=Reason.KILLED, message=_ON_REQUEST, host=host)


def without_outcome(key: str, end: End, claim: Claim | None, said: str, *, asked: bool) -> Outcome:
    """The batch system says that the task is over, and there is no outcome. `said`: what its worker has printed."""
    host = claim.host if claim is not None else ""
    if asked:
        return on_request(key, host)
    reason, message = _begun(end) if claim is not None else _not_begun(end)
    tail = last_words(said)
    return Outcome(
        key=key,
        reason=reason,
        exit_code=None if reason is Reason.PARTITION else end.exit_code,
        signal=end.signal,
        message=f"{message}: {tail}" if tail and _is_telling(end, claim) else message,
        host=host,
    )


def _begun(end: End) -> tuple[Reason, str]:
    if end.reason is Reason.FINISHED:
        return Reason.PARTITION, f"it has ended, and left no outcome that can be read here{_quoted(end)}"
    if end.reason is Reason.FAILED and end.exit_code == CANNOT_RUN:
        return Reason.ERROR, f"its worker could not go on{_quoted(end)}"
    return _by_others(end)


def _not_begun(end: End) -> tuple[Reason, str]:
    if end.reason in (Reason.FINISHED, Reason.FAILED, Reason.ERROR):
        return Reason.ERROR, f"its worker has ended before it had begun{_quoted(end)}"
    return _by_others(end)


def _by_others(end: End) -> tuple[Reason, str]:
    if end.reason is Reason.KILLED:
        return Reason.FAILED, f"ended in the batch system by somebody else{_quoted(end)}"
    return end.reason, end.message or f"the batch system says {end.reason.value}"


def _quoted(end: End) -> str:
    return f" ({end.message})" if end.message else ""


def _is_telling(end: End, claim: Claim | None) -> bool:
    """Does what the worker printed say more than the batch system does?"""
    return end.reason in (Reason.FINISHED, Reason.FAILED, Reason.ERROR) and (
        claim is None or end.exit_code == CANNOT_RUN
    )


def explained(outcome: Outcome, end: End | None) -> Outcome:
    """A worker was told to end, not by us, and has left `outcome`. `end`: why, as the batch system says, if it does."""
    if outcome.signal in TIME_IS_UP and (end is None or end.reason is Reason.FINISHED):
        return _because(outcome, Reason.MAXJOBDURATION, f"{outcome.message}: its time is up")
    if end is None:
        return _because(outcome, Reason.LOST, f"{outcome.message}, and the batch system does not say why")
    if end.reason in (Reason.FINISHED, Reason.FAILED, Reason.KILLED, Reason.ERROR):
        return _because(outcome, Reason.FAILED, f"ended by somebody else{_quoted(end)}: {outcome.message}")
    return _because(outcome, end.reason, end.message or outcome.message)


def _because(outcome: Outcome, reason: Reason, message: str) -> Outcome:
    return Outcome(
        key=outcome.key,
        reason=reason,
        signal=outcome.signal,
        message=message,
        usage=outcome.usage,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        host=outcome.host,
        ended=outcome.ended,
    )


def forgotten(key: str, claim: Claim | None, *, asked: bool) -> Outcome:
    """The batch system has known nothing of it for long, and it has left no outcome."""
    if asked:
        return on_request(key, claim.host if claim is not None else "")
    if claim is None:
        return Outcome(key=key, reason=Reason.MISSING, message="never started, and the batch system has forgotten it")
    where = f"it ran on {claim.host}" + (f" as {claim.job}" if claim.job else "")
    return Outcome(
        key=key,
        reason=Reason.MISSING,
        message=f"the batch system has forgotten it, and it has left no outcome; {where}",
        host=claim.host,
    )


def last_words(said: str) -> str:
    """The last lines of what a worker has printed, as one."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in said.splitlines()]
    return " / ".join([line for line in lines if line][-MOST_LINES:])[-MOST_CHARACTERS:]
