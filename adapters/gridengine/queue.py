"""What `qstat -xml` says: which jobs there are, and where their tasks stand. Pure.

Source: qstat(1), sge_status(5) (the table of states).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree as ET

from orch.adapters.batch.dialect import Seen, Stage, Trouble

_HELD = "waits until somebody releases it (qrls), or what it was told to wait for is over (-hold_jid)"
_SUSPENDED = {
    "s": "suspended (qmod -sj)",
    "S": "suspended with its queue",
    "T": "suspended, for its host has too much to do",
}
_KNOWN = frozenset("dEhqwrRtsSTPN")


class Line(NamedTuple):
    """A job, or some tasks of an array that stand alike. `tasks`: their numbers as qstat has them ("1-3:1,7")."""

    job: str
    name: str
    state: str
    tasks: str
    place: str

    def ids(self) -> Iterator[str]:
        """What the tasks are called."""
        if self.tasks:
            yield from (f"{self.job}.{number}" for number in numbers(self.tasks))
        else:
            yield self.job


def read(text: str) -> list[Line]:
    """The lines of a list. Raises `Trouble` if it is none."""
    try:
        root = ET.fromstring(_clean(text))  # noqa: S314  it comes from the batch system's own program
        return [_line(each) for each in root.iter() if each.tag.rpartition("}")[2] == "job_list"]
    except (ET.ParseError, ValueError) as error:
        raise Trouble(f"qstat: an answer that makes no sense ({error}): {text[:200]!r}") from error


def _clean(text: str) -> str:
    """Without what XML cannot have: names of jobs may."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text)


def _line(element: ET.Element) -> Line:
    found = {each.tag.rpartition("}")[2]: (each.text or "").strip() for each in element}
    job, state, tasks = found.get("JB_job_number", ""), found.get("state", ""), found.get("tasks", "")
    if not job.isdecimal() or not state:
        raise ValueError(f"job {job!r} is {state!r}")
    list(numbers(tasks))
    return Line(job, found.get("JB_name", ""), state, tasks, found.get("queue_name", ""))


def numbers(text: str) -> Iterator[int]:
    """Of "1-5:2,9": 1, 3, 5 and 9. Raises `ValueError`."""
    for part in filter(None, text.split(",")):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def seen(line: Line, whys: Mapping[str, str], task: str) -> Seen:
    """Where a task stands. `whys`: why, by task or job, of those that were asked about."""
    why = whys.get(task) or whys.get(line.job, "")
    stage, said = _stage(line.state, asked=task in whys or line.job in whys)
    return Seen(stage, line.state, why or said, host=line.place.partition("@")[2])


def waits(state: str) -> bool:
    """Is it in no queue yet? "qw", "hqw", "Eqw", "Rq" …"""
    return "w" in state or "q" in state


def _stage(state: str, *, asked: bool) -> tuple[Stage, str]:
    """Letters of the state, the most telling first. Of one in error, it is first to be heard why."""
    letters = frozenset(state)
    if not letters <= _KNOWN:
        return Stage.STRANGE, ""
    if "d" in letters:
        return Stage.ENDING, ""
    if "E" in letters:
        error = "in error, and stays so until somebody clears that (qmod -cj), or deletes it"
        return (Stage.HELD, error) if asked else (Stage.QUEUED, "in error; it is asked why")
    if waits(state):
        return (Stage.HELD, _HELD) if "h" in letters else (Stage.QUEUED, "")
    return Stage.RUNNING, next((_SUSPENDED[each] for each in "sST" if each in letters), "")


_JOB = re.compile(r"^job_number:\s*(\d+)", re.MULTILINE)
_ERROR = re.compile(r"^error reason\s+(\d+):\s*(.*)$", re.MULTILINE)
_STAMP = re.compile(r"^\S+ \S+ \[[\d:]+\]: (error: )?")
_SCHEDULING = re.compile(r"^scheduling info:\s*((?:.*\n?)(?:^\s+.*\n?)*)", re.MULTILINE)


def explained(text: str) -> dict[str, str]:
    """Why jobs and tasks do not run, from `qstat -j` (text): error reasons by task, obstacles by job."""
    found: dict[str, str] = {}
    places = [*(each.start() for each in _JOB.finditer(text)), len(text)]
    for start, end in itertools.pairwise(places):
        part = text[start:end]
        job = part.split(None, 2)[1]
        array = "\njob-array tasks:" in part
        for number, why in _ERROR.findall(part):
            found.setdefault(f"{job}.{number}" if array else job, _STAMP.sub("", why).strip())
        found.setdefault(job, _obstacles(part))
    return found


def _obstacles(part: str) -> str:
    """What hinders a job, rather than what is wrong with each of many queues; the lines of the scheduler."""
    match = _SCHEDULING.search(part)
    lines = [line.strip() for line in match.group(1).splitlines() if line.strip()] if match else []
    return "; ".join(sorted(lines, key=_says_little)[:2])[:300]


def _says_little(line: str) -> int:
    """About the job, or why a queue is closed; then that all are, or are full."""
    if line.startswith(("All queues", "(Collecting")):
        return 2
    if line.startswith("queue instance"):
        return 3 if line.endswith(("it is full", "it is overloaded")) else 1
    return 0
