"""What Grid Engine's commands answer when they do not do as they are told: will it pass, or never. Pure.

The texts are those of Son of Grid Engine 8.1, as seen; there is no list of them in the manuals.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from orch.adapters.batch.dialect import Answer, NotTaken, Refused, Trouble

_UNHEARD = re.compile(
    "Connection refused|can't resolve|unable to contact qmaster|can't connect|No route to host|act_qmaster"
    "|cell directory .* doesn't exist|access denied|endpoint is not unique",
    re.IGNORECASE,
)
"""Nothing has arrived: qmaster is down, or this host cannot talk to it."""

_UNSURE = re.compile(
    "commlib error|unable to send message|got (send|select|read|write) error|receive timeout"
    "|failed receiving gdi request|Error reading answer list",
    re.IGNORECASE,
)
"""It may have arrived."""

_FULL_CODE = 25
"""So many jobs are there as may (submit(1), EXIT STATUS; sge_conf(5), max_u_jobs, max_jobs)."""

_NEVER = re.compile("Unable to run job|invalid option|denied|Unknown option|error: .*(option|argument)", re.IGNORECASE)

_GONE = re.compile("does not exist|comprises no tasks|already in deletion|has deleted|registered the", re.IGNORECASE)
"""Of a job that is to end: it is over, or does not have to be told."""

NO_RECORDS = re.compile("not found|no jobs running since startup|No such file or directory", re.IGNORECASE)
"""Of qacct: of this there is no record; or nobody keeps any, or not where this host could see them."""


def words(answer: Answer) -> str:
    """What a command said, for people: its name, and the text without what is always there."""
    text = re.sub(r"Unable to run job: |\s*Exiting\.$|error: ", "", answer.said)
    return f"{answer.command.argv[0]}: {text}"


def refuse(answer: Answer) -> NoReturn:
    """What qsub means, if it has given no number. Raises `Refused`, `NotTaken`, `Trouble`."""
    text = words(answer)
    if answer.code == _FULL_CODE or _UNHEARD.search(answer.err):
        raise NotTaken(text)
    if answer.code and not _UNSURE.search(answer.err) and _NEVER.search(answer.err):
        raise Refused(text)
    raise Trouble(text)


def expect(answer: Answer) -> str:
    """What a question was answered with. Raises `Trouble`."""
    if answer.code:
        raise Trouble(words(answer))
    return answer.out


def all_gone(answer: Answer) -> bool:
    """Does qdel say of each task that it is over, or will be? It fails if one of many is."""
    lines = [line for line in f"{answer.out}\n{answer.err}".splitlines() if line.strip()]
    return bool(lines) and all(_GONE.search(line) for line in lines)


def together(tasks: Sequence[str]) -> list[str]:
    """Tasks as qdel takes them: "12.1-3" is three of an array (sge_types(5), wc_job_range_list)."""
    arrays: dict[str, set[int]] = {}
    for task in tasks:
        job, dot, number = task.partition(".")
        arrays.setdefault(job, set()).update([int(number)] if dot else [])
    return [word for job, numbers in arrays.items() for word in _ranges(job, sorted(numbers))]


def _ranges(job: str, numbers: Sequence[int]) -> Iterator[str]:
    if not numbers:
        yield job
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        span = [number for _, number in group]
        yield f"{job}.{span[0]}" + (f"-{span[-1]}" if len(span) > 1 else "")
