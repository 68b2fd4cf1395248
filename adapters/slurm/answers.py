"""What Slurm's commands answer when they do not do as they are told: will it pass, was nothing done, or never.

The texts are those of Slurm's `slurm_errno.c`, as slurm_strerror(3) gives them. Pure.
"""

from __future__ import annotations

import re
from typing import NoReturn

from orch.adapters.batch.dialect import Answer, NotTaken, Refused, Trouble

_UNHEARD = re.compile(
    "connect failure|Connection refused|controller not responding|Unable to establish|backup controller in standby"
    "|authentication|Munge decode|No route to host|Slurm temporarily unable|ClusterName needs"
    "|cannot stat file|resolve|DNS SRV",
    re.IGNORECASE,
)
"""Nothing has arrived: the controller is down, or this host cannot talk to it."""

_FULL = re.compile("SubmitJob|MaxJobCount|Required partition not available|in use, try again", re.IGNORECASE)
"""Not now: so many jobs are in the queue as may, or the partition is closed for the moment."""

_POLICY = re.compile("violates accounting/QOS policy", re.IGNORECASE)
_WHICH = re.compile(r"\b(Assoc|QOS)[A-Z]\w+")
"""One text for limits that pass (on jobs in the queue) and that do not; a line before it says which limit, mostly."""

_UNSURE = re.compile("timed out|Unexpected|Zero Bytes|Transport endpoint|Unable to contact|I/O error", re.IGNORECASE)
"""It may have arrived."""

_ANSWERED = re.compile(r"job submission failed: (.*)")

GONE = re.compile("Invalid job id|already completing or completed|Job/step already", re.IGNORECASE)
"""Of a job: slurmctld knows it no more, or never has."""

NO_RECORDS = re.compile("accounting storage is disabled|accounting_storage/none", re.IGNORECASE)
"""Of sacct: nobody keeps any (there is no slurmdbd)."""


def words(answer: Answer) -> str:
    """What a command said, for people: its name, and the text without that."""
    program = answer.command.argv[0]
    return f"{program}: {re.sub(f'{program}: ((error|fatal): )?', '', answer.said)}"


def refuse(answer: Answer) -> NoReturn:
    """What sbatch means, if it has given no id. Raises `Refused`, `NotTaken`, `Trouble`."""
    said = words(answer)
    some_limit = _POLICY.search(answer.err) and not _WHICH.search(answer.err)
    if some_limit or _FULL.search(answer.err) or _UNHEARD.search(answer.err):
        raise NotTaken(said)
    if _UNSURE.search(answer.err):
        raise Trouble(said)
    if _ANSWERED.search(answer.err) or answer.code == 255:  # 255: it has not understood its options
        raise Refused(said)
    raise Trouble(said)


def expect(answer: Answer) -> str:
    """What a question was answered with. Raises `Trouble`."""
    if answer.code:
        raise Trouble(words(answer))
    return answer.out
