"""The commands of PBS Professional, on a cluster: qsub, qstat, qselect, qdel, pbsnodes.

They know the options that orch gives, and behave as the manual pages of OpenPBS and public transcripts say. Files in
the cluster's directory make them another release: `pbs-without-json` (12), `pbs-bad-json` (19.1: a number in the
environment is written as it is), `pbs-lossy-json` (openpbs issue 2672: only the first of those asked for). A server
without job_history_enable is a cluster with `history=False`.

`orch.testing.cluster.faces.torque` has most of it from here.
"""

from __future__ import annotations

import getopt
import json
import math
import os
import re
import sys
import time

from orch.testing.cluster.client import Rejected, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from orch.testing.cluster.client import Client, Row

COMMANDS = {name: f"{__name__}:{name}" for name in ("qsub", "qstat", "qselect", "qdel", "pbsnodes")}

SERVER = "head.cluster"
UNKNOWN, FINISHED, REFUSED, CONNECTION = 153, 35, 188, 111
"""Exit codes: the number of the error modulo 256 (pbs_error.h): 15001, 15139, 15036; ECONNREFUSED."""

KILL_DELAY = 10.0
"""Seconds between SIGTERM and SIGKILL (pbs_queue_attributes(7B), kill_delay)."""

STATES = {"queued": "Q", "held": "H", "running": "R", "ending": "E"}
WAITS = {
    "Resources": "Not Running: Insufficient amount of resource: ncpus",
    "Nodes": "Not Running: Node is in an ineligible state: down",
}
UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


# qsub -----------------------------------------------------------------------------------------------------------


def qsub(cluster: Client, words: list[str]) -> int:
    """Take a script from stdin."""
    given, rest = getopt.getopt(words, "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz")
    options = dict(given)
    array = options.get("-J", "")
    resources = asked_for(given)
    if problem := _problem(options, array, resources):
        return said(f"qsub: {problem}", 1)
    chunk = dict(part.split("=", 1) for part in resources.get("select", "1:ncpus=1").split(":")[1:])
    return submit(
        cluster,
        options,
        rest,
        size=int(array.split("-")[1]) if array else 1,
        index="PBS_ARRAY_INDEX",
        cores=int(chunk.get("ncpus", "1")),
        memory=size_of(chunk.get("mem", "0")),
        walltime=float(resources.get("walltime", "0")),
        requeue=options.get("-r", "y") == "y",
        extra={"-v": options.get("-v", ""), "chunk": chunk, "walltime": resources.get("walltime", "")},
    )


def _problem(options: dict[str, str], array: str, resources: dict[str, str]) -> str:
    if array and not (re.fullmatch(r"1-\d+", array) and array != "1-1"):
        return "illegal -J value"
    if array and options.get("-r") != "y":  # some sites have Rerunable=False as their default
        return "cannot submit non-rerunable Array Job"
    if array and int(array[2:]) > 1000:
        return "Array job exceeds server or queue size limit"
    if not re.fullmatch(r"[A-Za-z0-9]\S{,235}", options["-N"]):
        return "illegal -N value"
    if "select" in resources and (odd := resources.keys() & {"mem", "ncpus", "nodes"}):
        return f'"-lresource=" cannot be used with "select" or "place", resource is: {min(odd)}'
    if "license" in resources:
        return "Unknown resource Resource_List.license"
    return ""


def asked_for(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """All that follows -l."""
    parts = [part for option, value in given if option == "-l" for part in value.split(",")]
    return dict(part.split("=", 1) for part in parts)


def submit(cluster: Client, options: dict[str, str], rest: list[str], *, size: int, index: str, **more: Any) -> int:
    """Hand over, and say what it is called."""
    if rest:
        return said("qsub: this one reads its script from stdin", 1)
    job = "{job}[{index}]" if size > 1 else "{job}"
    variables = {"PBS_JOBID": f"{job}.{SERVER}", "PBS_JOBNAME": options["-N"], "PBS_ENVIRONMENT": "PBS_BATCH"}
    variables.update(dict(pair.split("=", 1) for pair in options.get("-v", "").split(",") if pair))
    if size > 1:
        variables[index] = "{index}"
    try:
        number = cluster.submit(
            [options.get("-S", "/bin/sh"), "-c", sys.stdin.read()],
            name=options["-N"],
            tasks=range(1, size + 1) if size > 1 else (0,),
            variables=variables,
            cwd=os.path.expanduser("~"),
            out="" if options.get("-o") == "/dev/null" else options["-o"],
            priority=int(options.get("-p", "0")),
            hold="-h" in options,
            queue=options.get("-q", "workq"),
            grace=KILL_DELAY,
            **more,
        )
    except Rejected as error:
        return said(f"qsub: {error}", REFUSED)
    except Unreachable:
        return unreachable("qsub")
    sys.stdout.write(f"{number}{'[]' if size > 1 else ''}.{SERVER}\n")
    return 0


# qstat ----------------------------------------------------------------------------------------------------------


def qstat(cluster: Client, words: list[str]) -> int:
    """Show jobs in full; -x: those that are over too; -t: tasks of arrays."""
    if "-F" in words and _is(cluster, "pbs-without-json"):
        return said("qstat: invalid option -- 'F'\nusage: qstat [-f] [-J] [-p] [-t] [-x] [-E] [job_id …]", 2)
    given, asked = getopt.getopt(words, "ftxF:w")
    options = dict(given)
    try:
        rows = everything(cluster)
    except Unreachable:
        return unreachable("qstat")
    shown: list[tuple[str, dict[str, Any]]] = []
    code = 0
    for job in asked:
        found = matching(rows, job)
        if not found:
            code = said(f"qstat: Unknown Job Id {job}", UNKNOWN)
        elif "-x" not in options and all(row.state == "over" for row in found):
            hint = "use -x or -H to obtain historical job information"
            code = said(f"qstat: {job} Job has finished, {hint}", FINISHED)
        else:
            shown += list(_shown(found, tasks="-t" in options))
    if options.get("-F") == "json":
        _write_json(cluster, shown)
    else:
        for name, attributes in shown:
            write_text(name, attributes)
    return code


def everything(cluster: Client) -> list[Row]:
    """What is queued, runs, or has a record."""
    return [*(row for row in cluster.jobs() if row.state != "over"), *cluster.history()]


def matching(rows: Iterable[Row], job: str) -> list[Row]:
    """Those that are meant by an id: of an array, all its tasks."""
    number, index = parse(job)
    return [row for row in rows if row.job == number and index in (None, row.index)]


def parse(job: str) -> tuple[int, int | None]:
    """The number, and the task; None: all of it."""
    found = re.match(r"(\d+)(?:\[(\d*)\])?", job)
    assert found is not None, job
    return int(found[1]), int(found[2]) if found[2] else None


def called(row: Row) -> str:
    """A task's id."""
    return f"{row.job}[{row.index}].{SERVER}" if row.index else f"{row.job}.{SERVER}"


def _shown(rows: list[Row], *, tasks: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    if rows[0].index:
        over = all(row.state == "over" for row in rows)
        state = "F" if over else "B" if any(row.started for row in rows) else "Q"
        about = {"array": "True", "array_indices_submitted": f"1-{rows[0].size}", **_why(rows[0])}
        yield f"{rows[0].job}[].{SERVER}", {**_common(rows[0]), "job_state": state, **about}
        if not tasks:
            return
    for row in rows:
        state = ("X" if row.index else "F") if row.state == "over" else STATES.get(row.state, row.state)
        why = {} if row.index else _why(row)  # a task has no comment while it waits
        yield called(row), {**_common(row), "job_state": state, **why, **(_end(row) if row.state == "over" else {})}


def _common(row: Row) -> dict[str, Any]:
    asked = {**row.extra["chunk"], "walltime": row.extra["walltime"]}
    attributes: dict[str, Any] = {
        "Job_Name": row.name,
        "Job_Owner": f"me@{SERVER}",
        "queue": row.queue,
        "server": "head",
        "Hold_Types": "u" if row.state == "held" else "n",
        "Resource_List": {name: value for name, value in asked.items() if value},
        "run_count": row.restarts + 1 if row.started else 0,
        "Variable_List": {
            "PBS_O_HOME": "/home/me",
            "PBS_O_PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
            **dict(pair.split("=", 1) for pair in row.extra["-v"].split(",") if pair),
        },
    }
    if row.started:
        used = {"walltime": clock((row.ended or time.time()) - row.started), "mem": f"{row.used >> 10}kb"}
        attributes.update({"exec_host": f"{row.host}/0*{row.cores}", "resources_used": used})
    return attributes


def _why(row: Row) -> dict[str, str]:
    return {"comment": WAITS[row.why]} if row.why in WAITS else {}


def _end(row: Row) -> dict[str, Any]:
    """Exit_status is 256 and the signal, or a number below 0 (job.h)."""
    if row.reason == "cancelled" and not row.started:
        return {"substate": 91, "comment": "Not Running: … and terminated"}
    ran = f"Job run at Sat Nov 21 at 10:00 on ({row.host}:ncpus={row.cores})"
    status = 256 + row.signal if row.signal else row.code
    if row.reason in ("memory", "walltime"):
        return {
            "substate": 93,
            "Exit_status": {"memory": -27, "walltime": -29}[row.reason],
            "comment": f"{ran} and failed",
        }
    if row.reason == "node":
        return {"substate": 93, "Exit_status": -20, "comment": f"{ran} and failed"}
    if row.reason == "preempted":
        return {"substate": 91, "Exit_status": status, "comment": "Job preempted by deletion"}
    if row.reason == "cancelled":
        return {"substate": 91, "Exit_status": status, "comment": f"{ran} and terminated"}
    return {"substate": 93 if status else 92, "Exit_status": status, "comment": f"{ran} and finished"}


def _write_json(cluster: Client, shown: list[tuple[str, dict[str, Any]]]) -> None:
    if _is(cluster, "pbs-lossy-json"):
        shown = shown[:1]
    head = {"timestamp": int(time.time()), "pbs_version": "22.05.11", "pbs_server": "head"}
    text = json.dumps({**head, **({"Jobs": dict(shown)} if shown else {})}, indent=4)
    if _is(cluster, "pbs-bad-json"):
        text = text.replace('"PBS_O_HOME": ', '"ZIP": 01234,\n                "PBS_O_HOME": ')
    sys.stdout.write(text + "\n")


def write_text(name: str, attributes: dict[str, Any]) -> None:
    """A record, wrapped before column 80."""
    sys.stdout.write(f"Job Id: {name}\n")
    for key, value in attributes.items():
        if key == "Variable_List":
            _write_line(key, ",".join(f"{each}={text}" for each, text in value.items()))
        elif isinstance(value, dict):
            for each, text in value.items():
                _write_line(f"{key}.{each}", text)
        else:
            _write_line(key, value)
    sys.stdout.write("\n")


def _write_line(name: str, value: object) -> None:
    line = f"    {name} = {value}"
    parts = [line[:78], *(line[at : at + 70] for at in range(78, len(line), 70))]
    sys.stdout.write("\n\t".join(parts) + "\n")


# The others -----------------------------------------------------------------------------------------------------


def qselect(cluster: Client, words: list[str]) -> int:
    """List this user's jobs, arrays as a whole; -x: those that are over too."""
    options = dict(getopt.getopt(words, "xu:t:")[0])
    since = options["-t"].removeprefix("c.ge.")
    try:
        rows = everything(cluster)
    except Unreachable:
        return unreachable("qselect")
    wanted = [row for row in rows if time.strftime("%Y%m%d%H%M.%S", time.localtime(row.submitted)) >= since]
    for name in dict.fromkeys(f"{row.job}[]" if row.index else str(row.job) for row in wanted):
        sys.stdout.write(f"{name}.{SERVER}\n")
    return 0


def qdel(cluster: Client, words: list[str]) -> int:
    """End jobs, arrays, tasks."""
    return delete(cluster, words, "Unknown Job Id {}", "Job has finished {}", FINISHED)


def delete(cluster: Client, words: list[str], unknown: str, finished: str, code: int) -> int:
    """End them, and say which could not be."""
    try:
        rows = everything(cluster) + [row for row in cluster.jobs() if row.state == "over"]
        missing = cluster.cancel([parse(word) for word in words])
    except Unreachable:
        return unreachable("qdel")
    worst = 0
    for word in words:
        number, index = parse(word)
        if not matching(rows, word):
            worst = said(f"qdel: {unknown.format(word)}", UNKNOWN)
        elif (number, index) in missing:
            worst = said(f"qdel: {finished.format(word)}", code)
    return worst


def pbsnodes(cluster: Client, _words: list[str]) -> int:
    """All nodes."""
    try:
        nodes = cluster.nodes()
    except Unreachable:
        return unreachable("pbsnodes")
    for node in nodes:
        sys.stdout.write(f"{node['name']}\n     state = {'free' if node['up'] else 'down'}\n")
        there = {"host": node["name"], "mem": f"{node['memory'] >> 10}kb", "ncpus": node["cores"]}
        for name, value in there.items():
            sys.stdout.write(f"     resources_available.{name} = {value}\n")
        sys.stdout.write("\n")
    return 0


def size_of(text: str) -> int:
    """In bytes."""
    found = re.fullmatch(r"(\d+)([kmg]?b)?", text)
    assert found is not None, text
    return int(found[1]) * UNITS[found[2] or "b"]


def clock(seconds: float) -> str:
    """As 01:02:03."""
    whole = math.floor(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def unreachable(command: str) -> int:
    """The server is down, or did not answer."""
    return said(f"Connection refused\n{command}: cannot connect to server {SERVER} (errno=111)", CONNECTION)


def said(text: str, code: int) -> int:
    """An error."""
    sys.stderr.write(f"{text}\n")
    return code


def _is(cluster: Client, release: str) -> bool:
    return os.path.exists(os.path.join(cluster.directory, release))
