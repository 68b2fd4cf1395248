"""What `qstat -f` says, in each of its forms, as records: of PBS Professional, OpenPBS and Torque.

Two forms are read, whichever comes. Plain text: "Job Id:", then attributes a line each, indented by four spaces; long
values are wrapped, and go on behind a tab (qstat(1B) of Torque, "Standard Output"; of OpenPBS, "Job Status in Long
Format"). JSON (qstat(1B) of OpenPBS, "-F json"), which many releases get wrong: quotes and backslashes that stand in
an environment (openpbs issues 2541 and 2049), numbers like 005 (issue 1255), jobs that are missing where several were
asked for (issue 2672), "Jobs" once for each job (pull request 585). Who reads JSON has to be ready to ask for text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_ID = re.compile(r"(\d+)(?:\[(\d*)\])?")
_HEAD = re.compile(r"Job Id: *(\S+)\s*")
_ATTRIBUTE = re.compile(r" {4}([A-Za-z_][\w.\-]*) = (.*)")
_SIZE = re.compile(r"(\d+)([kmgtp]?)([bw]?)", re.IGNORECASE)
_WORD = 8
"""Bytes: "w" is the other unit of sizes (pbs_resources(7B))."""


class Record(NamedTuple):
    """A job, an array "123[].server", or a task of one "123[4].server". Attributes as text, "Resource_List.mem" too."""

    id: str
    attributes: dict[str, str]

    @property
    def number(self) -> str:
        """The digits at the beginning: what a job has on its server for itself, an array with all its tasks."""
        return number(self.id)

    @property
    def task(self) -> int | None:
        """Of a task of an array; None: it is none."""
        match = _ID.match(self.id)
        return int(match[2]) if match and match[2] else None

    @property
    def is_array(self) -> bool:
        """Is this an array as a whole?"""
        return "[]" in self.id

    def variable(self, name: str) -> str:
        """One of those that were handed over with it (`qsub -v`)."""
        found = re.search(rf"(?:^|,){re.escape(name)}=([^,]*)", self.attributes.get("Variable_List", ""))
        return self.attributes.get(f"Variable_List.{name}", found[1] if found else "")

    @property
    def host(self) -> str:
        """The first of those where it runs, or ran; empty: none. exec_host is "node1/0*2+node2/1"."""
        return re.split("[/+]", self.attributes.get("exec_host", ""), maxsplit=1)[0]

    def exceeds(self, resource: str) -> bool:
        """Did it use as much of a resource, a time or a size, as it had asked for, or more?"""
        used = amount(self.attributes.get(f"resources_used.{resource}", ""))
        asked = amount(self.attributes.get(f"Resource_List.{resource}", ""))
        return 0 < asked <= used


def number(job: str) -> str:
    """Of an id of whatever form."""
    match = _ID.match(job)
    return match[1] if match else ""


def read(text: str) -> list[Record]:
    """All that stands in an answer. Raises `ValueError` where it makes no sense."""
    text = text.strip("\n")
    if not text.strip():
        return []
    return _of_json(text) if text.lstrip().startswith("{") else _of_text(text)


def _of_json(text: str) -> list[Record]:
    # strict: control characters that stand in values as they are
    jobs = json.loads(text, strict=False).get("Jobs", {})
    if not isinstance(jobs, dict) or not all(isinstance(each, dict) for each in jobs.values()):
        raise ValueError('"Jobs" is no table of jobs')
    return [Record(job, dict(_flat(attributes))) for job, attributes in jobs.items()]


def _flat(attributes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)


def _of_text(text: str) -> list[Record]:
    records: list[Record] = []
    last = ""
    for line in text.split("\n"):
        if head := _HEAD.fullmatch(line):
            records.append(Record(head[1], {}))
            last = ""
        elif not records or not line.strip():
            continue  # a greeting of the site, or what stands between two jobs
        elif match := _ATTRIBUTE.fullmatch(line):
            # the first counts: a variable with a line feed in it may hold anything, and comes late
            last = match[1] if match[1] not in records[-1].attributes else ""
            records[-1].attributes.setdefault(match[1], match[2])
        elif last:
            records[-1].attributes[last] += line.removeprefix("\t") if line.startswith("\t") else f"\n{line}"
    if not records:
        raise ValueError("there is no job in it")
    return records


def amount(text: str) -> float:
    """A size in bytes, or a time in seconds, as PBS writes them: "2gb", "100kw", "1:30:00", "90"; 0: it is neither."""
    if match := _SIZE.fullmatch(text.strip()):
        scale = 1024.0 ** " kmgtp".index(match[2].lower() or " ")
        return float(match[1]) * scale * (_WORD if match[3].lower() == "w" else 1)
    parts = text.strip().split(":")
    if not all(part.replace(".", "", 1).isdigit() for part in parts):
        return 0.0
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + float(part)
    return seconds
