"""The commands of HTCondor, on a cluster: condor_submit, condor_q, condor_history, condor_rm, condor_status.

They understand the submit descriptions and constraints that orch writes, and say what the HTCondor Manual has. What is
evicted is started again; what used too much memory stays in the queue, on hold; what took too long removes itself.
A cluster that has this face does not linger.
"""

from __future__ import annotations

import json
import re
import sys

from orch.testing.cluster.client import Rejected, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from orch.testing.cluster.client import Client, Row

COMMANDS = {f"condor_{name}": f"{__name__}:{name}" for name in ("submit", "q", "history", "rm", "status")}

NO_SCHEDD = "ERROR: Can't find address of local schedd"
STATES = {"queued": 1, "running": 2, "ending": 3, "held": 5}
EXPIRED = "The job attribute PeriodicRemove expression '( JobStatus =?= 2 )' evaluated to TRUE"


def submit(cluster: Client, words: list[str]) -> int:
    """Take what is described on stdin."""
    lines, tasks = _description(sys.stdin.read())
    if words[-1] != "-" or "-terse" not in words or not tasks:
        return _said("ERROR: on Line 1 of submit file: no queue", 1)
    variables, process = _environment(lines["environment"].strip('"'))
    limit = re.search(r"JobCurrentStartDate > (\d+)", lines["periodic_remove"])
    # what is numbered from 0 is worked out where the job runs
    argv = ["/bin/sh", "-c", f'{process}exec "$0"', lines["executable"]]
    try:
        job = cluster.submit(
            argv if process else argv[-1:],
            name=lines["+orchname"].strip('"'),
            label=lines["+jobbatchname"].strip('"'),
            tasks=tasks,
            variables=variables,
            out=lines["output"].replace("$(orch_index)", "{index}"),
            cores=int(lines["request_cpus"]),
            memory=int(lines.get("request_memory", "0")) * 1024**2,
            walltime=float(limit[1]) if limit else 0.0,
            grace=min(1.0, float(lines["job_max_vacate_time"])),  # the machine's rules say so
            requeue=True,
            priority=int(lines["priority"]),
            extra={"lines": lines},
        )
    except Rejected as error:
        return _said(f"\nERROR: Failed to commit job submission into the queue.\nERROR: {error}", 1)
    except Unreachable as error:
        lost = "ERROR: Failed to commit job submission into the queue.\nSECMAN:2007:Failed to end classad message."
        return _said(f"\n{NO_SCHEDD if str(error) == 'down' else lost}", 1)
    sys.stdout.write(f"{job}.0 - {job}.{len(tasks) - 1}\n")
    return 0


def _description(text: str) -> tuple[dict[str, str], list[int]]:
    """The lines, by name, and the numbers that are queued."""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"queue orch_index in \(([\d ]+)\)", line):
            return lines, [int(number) for number in match[1].split()]
        name, _, value = line.partition("=")
        lines[name.strip().lower()] = value.strip().replace("$(DOLLAR)", "$")
    return lines, []


def _environment(text: str) -> tuple[dict[str, str], str]:
    """Variables, and a line of shell for those in which the number of the process stands."""
    variables, process = {"ORCH_FACE_INDEX": "{index}"}, ""
    for word in text.split():
        name, _, value = word.partition("=")
        value = value.replace("$(Cluster)", "{job}").replace("$(orch_index)", "{index}")
        if "$(Process)" in value:
            process += f'export {name}="${name}$((ORCH_FACE_INDEX - 1))"; '
        variables[name] = value.replace("$(Process)", "")
    return variables, process


def q(cluster: Client, words: list[str]) -> int:
    """What is in the queue; nothing at all is printed where there is nothing."""

    def queue() -> list[dict[str, Any]]:
        held = [row for row in cluster.history() if row.reason == "memory"]
        return [_ad(row) for row in [*held, *cluster.jobs()]]

    return _ads(
        queue, words, "-- Failed to fetch ads from: <127.0.0.1:9618> : login\nSECMAN:2007:Failed to end message."
    )


def history(cluster: Client, words: list[str]) -> int:
    """What has left it, the latest first."""

    def gone() -> list[dict[str, Any]]:
        rows = sorted(cluster.history(), key=lambda row: -row.ended)
        return [_ad(row) for row in rows if row.reason != "memory"]

    return _ads(gone, words, "Error: Can't find address of local schedd")


def _ads(ask: Callable[[], list[dict[str, Any]]], words: list[str], down: str) -> int:
    try:
        ads = ask()
    except Unreachable:
        return _said(down, 1)
    options, asked = _parse(words)
    if asked:
        ads = [ad for ad in ads if str(ad["ClusterId"]) in asked]
    if "-constraint" in options:
        ads = [ad for ad in ads if _holds(options["-constraint"], ad)]
    ads = ads[: int(options.get("-limit", len(ads)))]
    shown = [{name: ad[name] for name in options["-attributes"].split(",") if name in ad} for ad in ads]
    sys.stdout.write(json.dumps(shown, indent=1) + "\n" if shown else "")
    return 0


def rm(cluster: Client, words: list[str]) -> int:
    """Remove jobs."""
    tasks = [word.split(".") for word in words]
    wanted = [(int(job), int(process) + 1) for job, process in tasks]
    try:
        unknown = cluster.cancel(wanted)
        held = {(row.job, row.index) for row in cluster.history() if row.reason == "memory"}
    except Unreachable:
        return _said("Error: Can't find address of local schedd", 1)
    for task, word in zip(wanted, words, strict=True):
        gone = task in unknown and task not in held
        sys.stdout.write(f"Job {word} {'not found' if gone else 'marked for removal'}\n")
    return 1 if unknown else 0


def status(cluster: Client, words: list[str]) -> int:
    """The slots: one a machine, of which parts are given to jobs."""
    options, _ = _parse(words)

    def slots() -> list[dict[str, Any]]:
        return [
            {"TotalSlotCpus": node["cores"], "TotalSlotMemory": node["memory"] // 1024**2, "SlotType": "Partitionable"}
            for node in cluster.nodes()
            if node["up"]
        ]

    return _ads(slots, words, "Error: communication error") if options else 1


def _ad(row: Row) -> dict[str, Any]:
    """A job, as attributes; what is undefined is not there."""
    starts = row.restarts + (row.state not in ("queued", "held") and bool(row.started))
    ad = {
        "ClusterId": row.job,
        "ProcId": row.index - 1,
        "OrchName": row.name,
        "JobStatus": STATES.get(row.state, 99),
        "NumJobStarts": starts,
        **_over(row),
        "RemoteHost": f"slot1_1@{row.host}" if row.state == "running" else "",
        "LastRemoteHost": f"slot1_1@{row.host}",
        "LastRejMatchReason": "no match found" if row.state == "queued" and row.why != "Priority" else "",
    }
    if row.state == "held":
        ad |= {"HoldReasonCode": 1, "HoldReason": "via condor_hold (by user me)"}
    return {name: value for name, value in ad.items() if value not in ("", None)}


def _over(row: Row) -> dict[str, Any]:
    if row.state != "over":
        return {}
    if row.reason in ("exit", "signal"):
        by_signal = row.reason == "signal"
        return {"JobStatus": 4, "ExitBySignal": by_signal, "ExitCode": row.code, "ExitSignal": row.signal or None}
    if row.reason == "memory":
        why = f"Job has gone over memory limit of {row.memory // 1024**2} megabytes. Peak usage: {row.used} megabytes."
        return {"JobStatus": 5, "HoldReasonCode": 34, "HoldReasonSubCode": 0, "HoldReason": f"Error from slot1: {why}"}
    last = 2 if row.started else 1
    why = EXPIRED if row.reason == "walltime" else "via condor_rm (by user me)"
    return {"JobStatus": 3, "LastJobStatus": last, "RemoveReason": why}


def _holds(constraint: str, ad: dict[str, Any]) -> bool:
    """Is a ClassAd expression true, of the kinds that orch writes?"""
    alternatives = [part.split(" && ") for part in constraint.split(" || ")]
    return any(all(_is(term.strip("() "), ad) for term in terms) for terms in alternatives)


def _is(term: str, ad: dict[str, Any]) -> bool:
    if match := re.match(r"member\((\w+), \{(.*)\}", term):
        return ad.get(match[1]) in json.loads(f"[{match[2]}]")
    name, operator, value = term.split(" ", 2)
    return (ad.get(name) == json.loads(value)) is (operator == "==")


def _parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options with a value, and the rest."""
    options: dict[str, str] = {}
    rest = [word for word in words if word not in ("-json", "-terse", "-disable")]
    asked = []
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            options[word] = rest.pop(0)
        else:
            asked.append(word)
    return options, asked


def _said(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
