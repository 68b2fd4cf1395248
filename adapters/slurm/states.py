"""What the words mean that Slurm has for states, and for why a job waits. Pure tables, and how they are read.

Sources: squeue(1) and sacct(1), sections JOB STATE CODES; https://slurm.schedmd.com/job_state_codes.html (the newer
ones); https://slurm.schedmd.com/job_reason_codes.html; and what Slurm 22.05 was seen to answer.
"""

from __future__ import annotations

import re

from orch.adapters.batch.dialect import End, Seen, Stage
from orch.attempt import Reason

_STAGES = {
    "PENDING": Stage.QUEUED,
    "CONFIGURING": Stage.QUEUED,  # it has its nodes, and they boot
    "POWER_UP_NODE": Stage.QUEUED,
    "EXPEDITING": Stage.QUEUED,
    "REQUEUED": Stage.QUEUED,
    "REQUEUE_FED": Stage.QUEUED,
    "REQUEUE_HOLD": Stage.HELD,
    "RESV_DEL_HOLD": Stage.HELD,
    "SPECIAL_EXIT": Stage.HELD,
    "RUNNING": Stage.RUNNING,
    "RESIZING": Stage.RUNNING,
    "SIGNALING": Stage.RUNNING,
    "SUSPENDED": Stage.RUNNING,
    "STOPPED": Stage.RUNNING,
    "REVOKED": Stage.RUNNING,  # another cluster of the federation has it
    "COMPLETING": Stage.ENDING,
    "STAGE_OUT": Stage.ENDING,
    "UPDATE_DB": Stage.ENDING,
}

_ENDS = {
    "COMPLETED": Reason.FINISHED,
    "FAILED": Reason.FAILED,
    "CANCELLED": Reason.KILLED,
    "TIMEOUT": Reason.MAXJOBDURATION,
    "DEADLINE": Reason.MAXJOBDURATION,
    "OUT_OF_MEMORY": Reason.MEMLIMIT,
    "PREEMPTED": Reason.PREEMPTED,
    "NODE_FAIL": Reason.LOST,
    "BOOT_FAIL": Reason.LOST,
    "LAUNCH_FAILED": Reason.ERROR,
    "RECONFIG_FAIL": Reason.ERROR,
}

_NEVER = re.compile(
    "JobHeld(User|Admin)|JobHoldMaxRequeue|DependencyNeverSatisfied|BadConstraints|Invalid(Account|QOS)"
    "|(Account|QOS)NotAllowed|Partition(TimeLimit|NodeLimit|Config)|MaxMemPerLimit|QOSMin.*"
    "|(Assoc|QOS)Max.*(PerJob|PerNode).*|Max[A-Za-z]+PerAccount|NodeDown|PartitionDown|PartitionInactive"
)
"""Reasons that stay until somebody does something, whatever becomes free."""

_WORDS = {
    "None": "Slurm has not looked at it yet",
    "Priority": "jobs of higher priority go first",
    "Resources": "no nodes are free that it could run on",
    "BeginTime": "it is not to begin before a certain time",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "what it waits for has failed",
    "JobHeldUser": "held; scontrol release lets it go",
    "JobHeldAdmin": "held by an administrator",
    "PartitionTimeLimit": "it asks for more time than the partition gives",
    "PartitionNodeLimit": "the partition does not give that many nodes, or they are down",
    "PartitionConfig": "the partition has no node that can give what it asks for",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition starts no jobs at present",
    "BadConstraints": "no node is as it wants",
    "ReqNodeNotAvail": "a node that it needs is not there now, or reserved",
    "JobArrayTaskLimit": "as many of its array run as may",
    "QOSMaxJobsPerUserLimit": "as many of your jobs run as the QOS allows",
    "AssocMaxJobsLimit": "as many of your jobs run as may",
    "Licenses": "it waits for a licence",
    "Reservation": "it waits for its reservation",
    "Prolog": "the node is being prepared",
}

UNWRITABLE = 53
"""The signal that slurmd notes for a job whose output file it could not open (seen: FAILED, 0:53)."""


def seen(word: str, status: int, signal: int, reason: str, host: str) -> Seen:
    """What Slurm says of a task. `word`: its state, perhaps with more behind it ("CANCELLED by 1000")."""
    name = word.split(" ", 1)[0].rstrip("+")
    host = "" if host in {"n/a", "(null)", "None assigned"} else host
    if name in _ENDS:
        return Seen(Stage.OVER, name, host=host, end=_end(name, word, status, signal, reason))
    stage = _STAGES.get(name, Stage.STRANGE)
    if stage is Stage.QUEUED and _NEVER.fullmatch(reason):
        stage = Stage.HELD
    return Seen(stage, name, why=_why(name, stage, reason), host=host)


def _why(name: str, stage: Stage, reason: str) -> str:
    if stage is Stage.RUNNING:
        return "it is suspended" if name in {"SUSPENDED", "STOPPED"} else ""
    if name != "PENDING":
        return ""
    return f"{reason}: {_WORDS[reason]}" if reason in _WORDS else reason


def _end(name: str, word: str, status: int, signal: int, reason: str) -> End:
    said = f"Slurm: {word}" + (f" ({reason})" if reason not in {"", "None"} else "")
    why = _ENDS[name]
    if why is Reason.FINISHED:
        return End(why, exit_code=0)
    if why is not Reason.FAILED:
        return End(why, message=said)
    if signal == UNWRITABLE:
        return End(Reason.ERROR, message=f"{said}: it could not be started; can the node write to the store?")
    if signal:
        note = ", which is also how one ends that takes too much memory where no cgroup watches" if signal == 9 else ""
        return End(why, signal=signal, message=f"{said}: killed by signal {signal}{note}")
    if reason == "OutOfMemory":
        return End(Reason.MEMLIMIT, message=said)
    if _NEVER.fullmatch(reason):
        return End(Reason.ERROR, message=f"{said}: Slurm will not run it")
    return End(why, exit_code=status, message=f"{said}: exit code {status}")
