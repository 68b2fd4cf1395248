"""The commands of LSF, on a cluster: bsub, bjobs, bhist, bkill, bhosts, lshosts, bparams.

They know the options that orch gives, and say what is written in the LSF 10.1 command reference and seen in public
transcripts. A file `old-lsf` in the cluster's directory makes them LSF 9, which has no JSON. A cluster that has this
face lingers for an hour (`linger=3600`, CLEAN_PERIOD).
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import sys
import time

from orch.testing.cluster.client import Rejected, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from orch.testing.cluster.client import Client, Row

COMMANDS = {name: f"{__name__}:{name}" for name in ("bsub", "bjobs", "bhist", "bkill", "bhosts", "lshosts", "bparams")}

DOWN = "Failed in an LSF library call: LIM is down; try later"
LOST = "Failed in an LSF library call: Failed in sending/receiving a message: Connection reset by peer"
WITHOUT_VALUE = {"-rn", "-x", "-a", "-json", "-noheader", "-l", "-w", "-r"}
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

STATES = {"queued": "PEND", "held": "PSUSP", "running": "RUN", "ending": "RUN"}
WHY = {
    "Priority": "New job is waiting for scheduling;",
    "Resources": "Job requirements for reserving resource (mem) not satisfied: 1 host;",
    "Held": "Job was suspended by the user while pending;",
    "Nodes": "Unable to reach slave batch server: 1 host;",
}
ENDS = {
    "memory": (137, "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit"),
    "walltime": (140, "TERM_RUNLIMIT: job killed after reaching LSF run time limit"),
    "cancelled": (130, "TERM_OWNER: job killed by owner"),
    "node": (None, "TERM_REMOVE_HUNG_JOB: job removed from LSF"),
    "preempted": (130, "TERM_PREEMPT: job killed after preemption"),
}


def bsub(cluster: Client, words: list[str]) -> int:
    """Take a job whose commands are on stdin."""
    options, rest = _parse(words)
    name, array = re.fullmatch(r"([\w.-]+)(?:\[1-(\d+)\])?", options["-J"]).groups()  # type: ignore[union-attr]
    if rest:
        return _said("bsub: this one reads its commands from stdin", 255)
    if array and int(array) > 1000:
        return _said("Job array index too large. Job not submitted.", 255)
    if "-env" not in options:
        return _said("the whole environment would be logged. Job not submitted.", 255)
    try:
        job = cluster.submit(
            ["/bin/sh", "-c", sys.stdin.read()],
            name=name,
            label=options.get("-Jd", ""),
            tasks=range(1, int(array) + 1) if array else (0,),
            variables={"LSB_JOBID": "{job}", "LSB_JOBINDEX": "{index}", "LSB_JOBNAME": name},
            out=options["-o"].replace("%J", "{job}").replace("%I", "{index}"),
            cores=int(options.get("-n", "1")),
            memory=_bytes(options.get("-M", "0")),
            walltime=float(options.get("-W", "0")) * 60,
            first="INT",
            queue=options.get("-q", "normal"),
            extra={"options": words},
        )
    except Rejected as error:
        return _said(f"{error}. Job not submitted.", 255)
    except Unreachable as error:
        return _said(f"{DOWN if str(error) == 'down' else LOST}. Job not submitted.", 255)
    kind = "queue" if "-q" in options else "default queue"
    sys.stdout.write(f"Job <{job}> is submitted to {kind} <{options.get('-q', 'normal')}>.\n")
    return 0


def bjobs(cluster: Client, words: list[str]) -> int:
    """Show jobs by number, or by name."""
    old = os.path.exists(os.path.join(cluster.directory, "old-lsf"))
    if old and "-json" in words:
        return _said("-json: Illegal option.\nUsage: bjobs [-h] [-V] [-A] [-w | -l] [-a] [-d] … [jobId | 0] …", 255)
    options, asked = _parse(words)
    fields = [word for word in options["-o"].split() if "=" not in word]
    try:
        rows = [row for row in cluster.jobs() if _wanted(row, options.get("-J"), asked)]
    except Unreachable:
        return _said(DOWN, 255)
    missing = [job for job in asked if not any(str(row.job) == job for row in rows)]
    shown = [_fields(row) for row in rows]
    if "-json" in options:
        return _json(fields, shown, missing)
    for row in shown:
        sys.stdout.write("^".join(row[field] or "-" for field in fields) + "\n")
    return _not_found(missing) or (0 if shown else _said("No job found", 255))


def _json(fields: list[str], shown: list[dict[str, str]], missing: list[str]) -> int:
    records = [{field.upper(): row[field] for field in fields} for row in shown]
    records += [{"JOBID": job, "ERROR": f"Job <{job}> is not found"} for job in missing]
    sys.stdout.write(json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}, indent=2) + "\n")
    return 255 if missing else 0


def bhist(cluster: Client, words: list[str]) -> int:
    """Tell the stories of jobs. Lines end at column 80, and go on in the next after 21 spaces."""
    _, asked = _parse(words)
    try:
        rows = [*cluster.history(), *(row for row in cluster.jobs() if row.state != "over")]
    except Unreachable:
        return _said(DOWN, 255)
    found = [row for row in rows if _called(row) in asked or str(row.job) in asked]
    for row in found:
        for line in _story(row):
            cut = [line[:80], *(" " * 21 + line[at : at + 59] for at in range(80, len(line), 59))]
            sys.stdout.write("\n".join(cut) + "\n")
        sys.stdout.write("-" * 78 + "\n")
    return 0 if found else _said("No matching job found", 255)


def _story(row: Row) -> Iterable[str]:
    shown = _fields(row)
    yield f"Job <{_called(row)}>, Job Name <{shown['job_name']}>, User <me>, Project <default>, Command <{row.script}>"
    yield f"{_date(row.submitted)}: Submitted from host <login>, to Queue <{row.queue}>, CWD </>;"
    if row.started:
        yield f"{_date(row.started)}: Dispatched 1 Task(s) on Host(s) <{row.host}>, Allocated 1 Slot(s) on Host(s);"
        yield f"{_date(row.started)}: Starting (Pid 31390);"
    if shown["stat"] == "DONE":
        yield f"{_date(row.ended)}: Done successfully. The CPU time used is 0.0 seconds;"
    if shown["stat"] == "EXIT":
        code = f" with exit code {shown['exit_code']}" if shown["exit_code"] else ""
        yield f"{_date(row.ended)}: Exited{code}. The CPU time used is 0.0 seconds;"
        why = f"; {shown['exit_reason']}" if shown["exit_reason"] else ""
        yield f"{_date(row.ended)}: Completed <exit>{why};"
    yield ""
    yield "Summary of time in seconds spent in various states by  now"


def bkill(cluster: Client, words: list[str]) -> int:
    """End jobs."""
    tasks = [re.fullmatch(r"(\d+)(?:\[(\d+)\])?", word) for word in words]
    wanted = [(int(task[1]), int(task[2]) if task[2] else None) for task in tasks if task]
    try:
        unknown = cluster.cancel(wanted)
    except Unreachable:
        return _said("\n".join(f"Job <{word}>: {DOWN}" for word in words), 255)
    for word, task in zip(words, wanted, strict=True):
        if task in unknown:
            sys.stderr.write(f"Job <{word}>: No matching job found\n")
        else:
            sys.stdout.write(f"Job <{word}> is being terminated\n")
    return 255 if unknown else 0


def bhosts(cluster: Client, _words: list[str]) -> int:
    """The hosts' slots."""
    sys.stdout.write("HOST_NAME          STATUS          JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV \n")
    for node in cluster.nodes():
        state = "ok" if node["up"] else "unavail"
        sys.stdout.write(f"{node['name']:18} {state:12} -  {node['cores']:8}      0      0      0      0      0\n")
    return 0


def lshosts(cluster: Client, _words: list[str]) -> int:
    """The hosts' memory."""
    sys.stdout.write("HOST_NAME   type    model  cpuf ncpus maxmem maxswp server RESOURCES\n")
    for node in cluster.nodes():
        memory = f"{node['memory'] / 1024**3:.1f}G"
        sys.stdout.write(f"{node['name']}  X86_64 Intel_EM 60.0 {node['cores']:5} {memory:>6}  4.0G    Yes (mg)\n")
    return 0


def bparams(_cluster: Client, _words: list[str]) -> int:
    """What the site has chosen."""
    sys.stdout.write("lsb.params configuration at Fri Nov 20 10:00:00 2026\n")
    sys.stdout.write("                      MAX_JOB_ARRAY_SIZE = 1000\n        RESOURCE_RESERVE_PER_TASK = Y\n")
    return 0


def _fields(row: Row) -> dict[str, str]:
    """What `bjobs -o` has of a job."""
    state, code, why = STATES.get(row.state, row.state), "", ""
    if row.state == "over":
        state = "DONE" if row.reason == "exit" and not row.code else "EXIT"
        number, why = ENDS.get(row.reason, (128 + row.signal if row.signal else row.code, ""))
        code = str(number) if number and row.started else ""
    return {
        "jobid": str(row.job),
        "jobindex": str(row.index),
        "stat": state,
        "exit_code": code,
        "exec_host": f"{row.cores}*{row.host}" if row.cores > 1 and row.host else row.host,
        "job_name": f"{row.name}[{row.index}]" if row.index else row.name,
        "exit_reason": why,
        "pend_reason": WHY.get(row.why, "") if row.state in ("queued", "held") else "",
    }


def _wanted(row: Row, name: str | None, jobs: list[str]) -> bool:
    if name is None:
        return not jobs or str(row.job) in jobs
    return fnmatch.fnmatchcase(row.name, name) or fnmatch.fnmatchcase(f"{row.name}[{row.index}]", name)


def _called(row: Row) -> str:
    return f"{row.job}[{row.index}]" if row.index else str(row.job)


def _bytes(text: str) -> int:
    """A limit; without a unit it is KB."""
    number, unit = re.fullmatch(r"(\d+)([KMGT]?)B?", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit or "K"]


def _date(seconds: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S", time.localtime(math.floor(seconds)))


def _parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options, each with a value but for those that have none; and the rest."""
    options: dict[str, str] = {}
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if not word.startswith("-"):
            rest.append(word)
        elif word in WITHOUT_VALUE:
            options[word] = ""
        else:
            at += 1
            options[word] = words[at]
        at += 1
    return options, rest


def _not_found(jobs: list[str]) -> int:
    return _said("\n".join(f"Job <{job}> is not found" for job in jobs), 255) if jobs else 0


def _said(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
