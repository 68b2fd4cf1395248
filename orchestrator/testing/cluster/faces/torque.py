"""The commands of Torque 6, on a cluster: qsub, qstat, qselect, qdel, pbsnodes.

They know the options that orch gives, and behave as the manual pages and public transcripts say. keep_completed is the
`linger` of the cluster: after that a job is unknown, and there are no records. A file `torque-4` in the cluster's
directory makes them Torque 4, which says 271 of each job that it has ended.
"""

from __future__ import annotations

import getopt
import os
import re
import sys
import time

from orch.testing.cluster.client import Unreachable
from orch.testing.cluster.faces.pbs import (
    STATES,
    UNKNOWN,
    WAITS,
    asked_for,
    called,
    clock,
    delete,
    matching,
    said,
    size_of,
    submit,
    unreachable,
    write_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orch.testing.cluster.client import Client, Row

COMMANDS = {name: f"{__name__}:{name}" for name in ("qsub", "qstat", "qselect", "qdel", "pbsnodes")}

BAD_STATE = 168
"""The exit code for PBSE_BADSTATE: modulo 256, as those of PBS."""

ENDS = {"memory": -10, "walltime": -11, "cancelled": 271, "node": -4, "preempted": 271}


def qsub(cluster: Client, words: list[str]) -> int:
    """Take a script from stdin."""
    given, rest = getopt.getopt(words, "a:A:b:c:C:d:D:e:fF:hIj:k:K:l:L:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz")
    options = dict(given)
    array = options.get("-t", "")
    if not re.fullmatch(r"[A-Za-z]\S{,14}", options["-N"]):
        return said("qsub: illegal -N value", 1)
    if array and not re.fullmatch(r"1-\d+", array):
        return said("qsub: illegal -t value", 1)
    resources = asked_for(given)
    node = resources["nodes"].split(":")
    cores = next((int(part[4:]) for part in node if part.startswith("ppn=")), 1)
    limits = [size_of(resources[name]) for name in ("mem", "vmem") if name in resources]
    limits += [size_of(resources[name]) * cores for name in ("pmem", "pvmem") if name in resources]
    return submit(
        cluster,
        {**options, "-q": options.get("-q", "batch")},
        rest,
        size=int(array.split("-")[1]) if array else 1,
        index="PBS_ARRAYID",
        cores=cores,
        memory=min(limits, default=0),
        walltime=float(resources.get("walltime", "0")),
        extra={"-v": options.get("-v", ""), "resources": resources},
    )


def qstat(cluster: Client, words: list[str]) -> int:
    """Show jobs in full; -t: the tasks of arrays, each for itself."""
    _, asked = getopt.getopt(words, "ft1")
    try:
        rows = cluster.jobs()
    except Unreachable:
        return unreachable("qstat")
    code = 0
    for job in asked:
        found = matching(rows, job)
        for row in found:
            write_text(called(row), _attributes(cluster, row))
        if not found:
            code = said(f"qstat: Unknown Job Id Error {job}", UNKNOWN)
    return code


def _attributes(cluster: Client, row: Row) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "Job_Name": row.name,
        "Job_Owner": "me@login",
        "job_state": "C" if row.state == "over" else STATES.get(row.state, row.state),
        "queue": row.queue,
        "server": "head",
        "Hold_Types": "u" if row.state == "held" else "n",
        "Resource_List": {**row.extra["resources"], **_limit(row)},
        "Variable_List": {
            **dict(pair.split("=", 1) for pair in row.extra["-v"].split(",") if pair),
            "PBS_O_QUEUE": row.queue,
            "PBS_O_PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
        },
    }
    if row.started:
        used = {"walltime": clock((row.ended or time.time()) - row.started), "mem": f"{row.used >> 10}kb"}
        host = "+".join(f"{row.host}/{core}" for core in range(row.cores))
        attributes.update({"exec_host": host, "resources_used": used})
    if row.state == "over":
        attributes["exit_status"] = _status(cluster, row)
    elif row.why in WAITS:
        attributes["comment"] = WAITS[row.why]
    return attributes


def _limit(row: Row) -> dict[str, str]:
    return {"walltime": clock(row.walltime)} if row.walltime else {}


def _status(cluster: Client, row: Row) -> int | None:
    if os.path.exists(os.path.join(cluster.directory, "torque-4")) and row.reason in ENDS:
        return 271
    return ENDS.get(row.reason, 256 + row.signal if row.signal else row.code)


def qselect(cluster: Client, _words: list[str]) -> int:
    """List this user's jobs, each task of an array."""
    try:
        rows = cluster.jobs()
    except Unreachable:
        return unreachable("qselect")
    sys.stdout.writelines(f"{called(row)}\n" for row in rows)
    return 0


def qdel(cluster: Client, words: list[str]) -> int:
    """End jobs, arrays, tasks."""
    return delete(cluster, words, "Unknown Job Id Error {}", "Request invalid for state of job {}", BAD_STATE)


def pbsnodes(cluster: Client, _words: list[str]) -> int:
    """All nodes."""
    try:
        nodes = cluster.nodes()
    except Unreachable:
        return unreachable("pbsnodes")
    for node in nodes:
        state, memory = "free" if node["up"] else "down", f"{node['memory'] >> 10}kb"
        sys.stdout.write(f"{node['name']}\n     state = {state}\n     np = {node['cores']}\n     ntype = cluster\n")
        sys.stdout.write(f"     status = opsys=linux,ncpus={node['cores']},physmem={memory},availmem={memory}\n\n")
    return 0
