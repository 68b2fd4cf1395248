"""What HTCondor answers: the states of jobs, the reasons for holds, how jobs end.

Pages are of the HTCondor Manual.
"""

from __future__ import annotations

import json
import re
from typing import Any

from orch.adapters.batch.dialect import Answer, End, Reason, Seen, Stage, Trouble

IDLE, RUNNING, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = range(1, 8)
STATES = {
    IDLE: ("Idle", Stage.QUEUED),
    RUNNING: ("Running", Stage.RUNNING),
    REMOVED: ("Removed", Stage.ENDING),
    COMPLETED: ("Completed", Stage.OVER),
    HELD: ("Held", Stage.HELD),
    TRANSFERRING: ("Transferring Output", Stage.ENDING),
    SUSPENDED: ("Suspended", Stage.RUNNING),
}
"""`JobStatus` of a job in the queue (Job ClassAd Attributes, JobStatus)."""

HOLDS = {
    4: Reason.ERROR,  # the credentials are invalid
    5: Reason.ERROR,  # a policy expression of the job or the pool is undefined
    6: Reason.ERROR,  # the executable cannot be started
    7: Reason.ERROR,  # files and streams that cannot be opened
    8: Reason.ERROR,
    9: Reason.ERROR,
    10: Reason.ERROR,
    11: Reason.ERROR,  # files that cannot be transferred
    12: Reason.ERROR,
    13: Reason.ERROR,
    14: Reason.ERROR,  # the working directory cannot be entered
    18: Reason.ERROR,
    32: Reason.ERROR,
    33: Reason.ERROR,
    34: Reason.MEMLIMIT,
    46: Reason.MAXJOBDURATION,
    47: Reason.MAXJOBDURATION,
}
"""Holds that do not get better by waiting (Job ClassAd Attributes, HoldReasonCode). Others are waited for, before a
start: a job that has been started and is held will not go on, since its processes are dead.
"""

BY_SOMEBODY = (1, 15, 16)
"""Holds that users asked for (condor_hold, `hold = True`), or that pass (files are spooled)."""

BY_POLICY = (3, 21, 26)
"""Holds by a rule of the job, the machine or the pool, which says in words of its own what was too much."""

TOO_MUCH = {
    Reason.MEMLIMIT: re.compile(r"memory|\bRSS\b|ImageSize|ResidentSetSize", re.IGNORECASE),
    Reason.MAXJOBDURATION: re.compile(r"wall|run ?time|duration|too long|StartDate|time limit", re.IGNORECASE),
}

UNSURE = re.compile(r"Failed to|SECMAN|CEDAR|DCSchedd|timed out|Unable to", re.IGNORECASE)
"""The connection to the schedd may have ended in the middle."""

ATTRIBUTES = [
    "ClusterId",
    "ProcId",
    "JobStatus",
    "LastJobStatus",
    "NumJobStarts",
    "ExitBySignal",
    "ExitCode",
    "ExitSignal",
    "HoldReason",
    "HoldReasonCode",
    "LastHoldReason",
    "LastHoldReasonCode",
    "RemoveReason",
    "LastRejMatchReason",
    "RemoteHost",
    "LastRemoteHost",
]


def ads(answer: Answer) -> list[dict[str, Any]]:
    """The ClassAds in an answer; there may be nothing at all where there are none. Raises `Trouble`."""
    if "history file" in answer.err.lower() and not answer.out.strip():
        return []  # nothing has left the queue since the pool was made
    if answer.code or UNSURE.search(answer.err) or "Error:" in answer.err:
        raise Trouble(answer.said)
    try:
        ads: list[dict[str, Any]] = json.loads(answer.out or "[]", strict=False)
        if all(isinstance(ad, dict) for ad in ads):
            return ads
    except (ValueError, TypeError):
        pass
    raise Trouble(answer.said)


def key(ad: dict[str, Any]) -> str:
    """What a task is called."""
    return f"{ad.get('ClusterId')}.{ad.get('ProcId')}"


def seen(ad: dict[str, Any]) -> Seen:
    """A job in the queue."""
    status = ad.get("JobStatus", 0)
    word, stage = STATES.get(status, (f"JobStatus {status}", Stage.STRANGE))
    host = str(ad.get("RemoteHost", "")).rpartition("@")[2]
    if status == HELD:
        return _held(ad, str(ad.get("HoldReason", "")), ad.get("HoldReasonCode", 0))
    if status == COMPLETED:
        return gone(ad)
    if status == IDLE and ad.get("NumJobStarts", 0) > 0:
        return Seen(Stage.OVER, "Evicted", end=End(Reason.PREEMPTED, message="HTCondor: evicted"))
    return Seen(stage, word, str(ad.get("LastRejMatchReason", "")) if status == IDLE else "", host)


def _held(ad: dict[str, Any], why: str, code: int) -> Seen:
    """On hold: for good, or until somebody lets it go."""
    started = ad.get("NumJobStarts", 0) > 0
    if code in BY_SOMEBODY or (code not in HOLDS and not started):
        return Seen(Stage.HELD, "Held", f"{why} (code {code}): condor_release lets it go on")
    reason = HOLDS.get(code, Reason.ERROR)
    if code in BY_POLICY:
        reason = next((each for each, words in TOO_MUCH.items() if words.search(why)), Reason.ERROR)
    return Seen(Stage.OVER, "Held", end=End(reason, message=f"HTCondor: put on hold: {why} (code {code})"))


def gone(ad: dict[str, Any]) -> Seen:
    """A job that has left the queue, or is about to."""
    host = str(ad.get("LastRemoteHost", ad.get("RemoteHost", ""))).rpartition("@")[2]
    if ad.get("JobStatus") == COMPLETED:
        return Seen(Stage.OVER, "Completed", host=host, end=_exit(ad))
    if ad.get("JobStatus") == REMOVED:
        return Seen(Stage.OVER, "Removed", host=host, end=_removed(ad))
    return Seen(Stage.STRANGE, f"JobStatus {ad.get('JobStatus')}", host=host)


def _exit(ad: dict[str, Any]) -> End:
    """Job ClassAd Attributes, ExitBySignal, ExitCode and ExitSignal."""
    if ad.get("ExitBySignal"):
        number = int(ad.get("ExitSignal", 0))
        return End(Reason.FAILED, None, number, f"HTCondor: killed by signal {number}")
    code = int(ad.get("ExitCode", 0))
    if not code and ad.get("NumJobStarts", 0) > 1:  # who came second found that the ticket was taken, and left
        return End(Reason.LOST, message="HTCondor: started again, after it had lost its first place")
    return End(Reason.FAILED if code else Reason.FINISHED, code, message=f"HTCondor: exit code {code}")


def _removed(ad: dict[str, Any]) -> End:
    """Removed: by somebody, by the pool's rules, or by the job's own (`_removed_when`), which say in what state."""
    why = str(ad.get("RemoveReason", "removed"))
    last = ad.get("LastJobStatus")
    if "SYSTEM_PERIODIC" in why:
        reason = next((each for each, words in TOO_MUCH.items() if words.search(why)), Reason.ERROR)
    elif "PeriodicRemove" not in why:
        reason = Reason.KILLED
    elif last == HELD:
        code = ad.get("HoldReasonCode", ad.get("LastHoldReasonCode", 0))
        held = _held({"NumJobStarts": 1}, str(ad.get("HoldReason", ad.get("LastHoldReason", ""))), code)
        return held.end or End(Reason.KILLED, message=f"HTCondor: {why}")
    else:
        reason, why = {
            IDLE: (Reason.PREEMPTED, "evicted"),
            RUNNING: (Reason.MAXJOBDURATION, "it ran for longer than its wall time"),
        }.get(last or 0, (Reason.ERROR, why))
    return End(reason, message=f"HTCondor: {why}")
