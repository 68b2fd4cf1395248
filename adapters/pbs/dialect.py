"""PBS Professional and OpenPBS: what is particular to them.

The manual pages are those of OpenPBS (doc/man1, doc/man7), which say the same as the Reference Guide of PBS
Professional; the guide's chapters are "PBS Commands", "Job Attributes", "States" and "Error Codes".

What is found after an end depends on the server: with job_history_enable a job is known for two weeks (`qstat -x`),
else it is forgotten at once. A task of an array keeps no exit status of its own in older releases: state "X".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orch.adapters.batch.dialect import Answer, Command, End, Order, Refused, Room, Seen, Stage, Trouble
from orch.adapters.pbs.qstat import Record, amount, number, read
from orch.adapters.pbs.qsub import Qsub, check, kilobytes, nonsense, since_text
from orch.attempt import Reason
from orch.bus.events import Accelerator

# qstat(1B), "Job Status in Default Format". B is an array's.
STAGES = {
    "Q": Stage.QUEUED,
    "W": Stage.QUEUED,  # its files are not there: it is tried again after half an hour
    "T": Stage.QUEUED,
    "H": Stage.HELD,
    "B": Stage.RUNNING,
    "R": Stage.RUNNING,
    "S": Stage.RUNNING,  # suspended: it goes on later
    "U": Stage.RUNNING,  # suspended: somebody sits at the keyboard
    "E": Stage.ENDING,
    "F": Stage.OVER,
    "X": Stage.OVER,
    "M": Stage.QUEUED,  # at another server, of which this one knows nothing: the outcome's file will tell
}

_WHY = {
    "S": "suspended",
    "U": "suspended: somebody uses its node",
    "M": "moved to another server",
    "W": "waits for its files",
}

# src/include/job.h of OpenPBS, "Special Job Exit Values"; Administrator's Guide, "Job Exit Status Codes"
ENDS = {
    -1: (Reason.ERROR, "could not be started, before its files were there"),
    -2: (Reason.ERROR, "could not be started, after its files were there"),
    -3: (Reason.LOST, "could not be started; may be tried again"),
    -4: (Reason.LOST, "its node was started again"),
    -5: (Reason.LOST, "its node was started again"),
    -6: (Reason.LOST, "its node was started again"),
    -7: (Reason.LOST, "could not be started again from its checkpoint"),
    -10: (Reason.ERROR, "the user or group is not valid on its node"),
    -11: (Reason.LOST, "was to be run again"),
    -12: (Reason.LOST, "was checkpointed and killed"),
    -13: (Reason.ERROR, "bad password"),
    -14: (Reason.LOST, "was to be run again"),
    -15: (Reason.LOST, "was to be run again from its checkpoint"),
    -16: (Reason.LOST, "a hook refused it; may be tried again"),
    -17: (Reason.ERROR, "a hook refused it"),
    -18: (Reason.LOST, "a hook had it queued again"),
    -19: (Reason.ERROR, "a hook had it deleted"),
    -20: (Reason.LOST, "the connection to its node failed"),
    -21: (Reason.ERROR, "a folder of PBS on its node is not secure"),
    -22: (Reason.ERROR, "a hook failed"),
    -23: (Reason.ERROR, "Kerberos credentials are missing"),
    -24: (Reason.FAILED, "used more cores than it had asked for"),
    -25: (Reason.FAILED, "used more cores than it had asked for"),
    -26: (Reason.MEMLIMIT, "used more virtual memory than it had asked for"),
    -27: (Reason.MEMLIMIT, "used more memory than it had asked for"),
    -28: (Reason.FAILED, "used more CPU time than is allowed"),
    -29: (Reason.MAXJOBDURATION, "ran longer than its walltime"),
    -30: (Reason.ERROR, "could not be started on all its nodes"),
}

_DELETED = "91"
"""substate: it was terminated (job.h, JOB_SUBSTATE_TERMINATED): by `qdel`, mostly."""


class Pbs(Qsub):
    """PBS Professional and OpenPBS."""

    name = "pbs"
    index_variable = "PBS_ARRAY_INDEX"
    array_option = "-J"
    backend_keys = ("account", "group", "place", "project", "resources", "select")

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        super().__init__(options, environment)
        self._form = ["-F", "json"]

    # Submitting -----------------------------------------------------------------------------------------------

    def _asked(self, order: Order, backend: Mapping[str, str]) -> list[str]:
        """One chunk, so that all of it is on one host (qsub(1B), -l; pbs_resources(7B))."""
        chunk = ["1", f"ncpus={order.cores}"]
        if order.memory:
            chunk.append(f"mem={kilobytes(order.memory)}")
        chunk += self._devices(order.accelerators)
        chunk += [part.strip(":") for part in (self._option("reqs"), backend.get("select", "")) if part]
        words = ["-l", f"select={':'.join(chunk)}"]
        if place := backend.get("place"):
            words += ["-l", f"place={place}"]
        if project := backend.get("project") or self._option("project"):
            words += ["-P", project]
        # an array has to be one that may be run again; who has a ticket already does not run it twice
        return [*words, "-r", "y" if order.size > 1 else "n"]

    def _devices(self, asked: Iterable[Accelerator]) -> list[str]:
        parts = []
        for each in asked:
            if each.kind != "gpu":
                raise Refused(f"PBS has no name for {each.kind} devices: ask for them by backend={{'select': …}}")
            parts.append(f"{self._option('gpu-resource') or 'ngpus'}={each.count}")
            if each.model:
                resource = self._option("gpu-model-resource")
                if not resource:
                    raise Refused(f"which resource says that a GPU is a {each.model}? See pbs-gpu-model-resource")
                parts.append(f"{resource}={each.model}")
        return parts

    # Looking --------------------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """-x: those that are over too, where there is a history; -t: each task of an array."""
        return (Command(["qstat", "-x", "-f", "-t", *self._form, *jobs]),)

    def _records(self, answer: Answer) -> list[Record]:
        if "json" not in answer.command.argv:
            return super()._records(answer)
        if answer.code and re.search("invalid option|usage:", answer.err, re.IGNORECASE):
            raise self._give_up_json("it has none")
        check(answer)
        try:
            records = read(answer.out)
        except ValueError as error:
            if answer.out.lstrip().startswith("{"):
                raise self._give_up_json(str(error)) from error
            raise nonsense(answer, error) from error
        there = {each.number for each in records} | {number(word) for word in re.findall(r"\d+\S*", answer.err)}
        if missing := [word for word in answer.command.argv if number(word) and number(word) not in there]:
            raise self._give_up_json(f"{missing[0]} is not in it, and is not said to be unknown")
        return records

    def _give_up_json(self, why: str) -> Trouble:
        self._form = []
        return Trouble(f"the JSON of this qstat cannot be relied on ({why}): orch reads its plain text from now on")

    def _seen(self, record: Record, array: Record | None) -> Seen:
        word = record.attributes.get("job_state", "")
        stage = STAGES.get(word, Stage.STRANGE)
        why = record.attributes.get("comment") or (array.attributes.get("comment", "") if array else "")
        if stage is Stage.HELD:
            why = ", ".join(filter(None, [f"held ({record.attributes.get('Hold_Types', '?')})", why]))
        elif stage is not Stage.QUEUED:
            why = _WHY.get(word, "")
        end = _end(record) if stage is Stage.OVER else None
        return Seen(stage, word, why or _WHY.get(word, ""), record.host, end)

    def _add_forgotten(self, array: Record, job: str, found: dict[str, Seen]) -> None:
        """array_indices_submitted is "1-30": what it has (pbs_job_attributes(7B))."""
        if array.attributes.get("job_state") not in ("F", "X"):
            return
        indices = re.fullmatch(r"(\d+)-(\d+)", array.attributes.get("array_indices_submitted", ""))
        for index in range(int(indices[1]), int(indices[2]) + 1) if indices else ():
            found.setdefault(self.task(job, index, 0), Seen(Stage.OVER, "F", end=_end(Record(array.id, {}))))

    # Finding --------------------------------------------------------------------------------------------------

    qstat_all = "qstat -x -f"

    def _select(self, since: float) -> str:
        return f'qselect -x -u "$(id -un)" -tc.ge.{since_text(since)}'

    # What there is --------------------------------------------------------------------------------------------

    def _room(self, nodes: Sequence[Mapping[str, str]]) -> Room:
        """A host may be several vnodes; a chunk is of one host (pbs_node_attributes(7B), resources_available)."""
        hosts: dict[str, list[float]] = {}
        for at, node in enumerate(nodes):
            there = "resources_available."
            host = hosts.setdefault(node.get(f"{there}host") or str(at), [0.0, 0.0, 0.0])
            for which, resource in enumerate(("ncpus", "mem", self._option("gpu-resource") or "ngpus")):
                host[which] += amount(node.get(there + resource, ""))
        cores, memory, devices = (max(host[which] for host in hosts.values()) for which in range(3))
        return Room(
            cores=sum(host[0] for host in hosts.values()),
            node_cores=cores,
            node_memory=int(memory),
            accelerators=(Accelerator(count=int(devices)),) if devices else (),
        )


def _end(record: Record) -> End:
    """From Exit_status, substate, comment, run_count and what was used (pbs_job_attributes(7B))."""
    status = record.attributes.get("Exit_status", "")
    comment = record.attributes.get("comment", "")
    deleted = record.attributes.get("substate") == _DELETED or comment.endswith("terminated")
    if not re.fullmatch(r"-?\d+", status):
        if deleted:
            return End(Reason.KILLED, message=f"PBS: deleted ({comment or 'substate 91'})")
        return End(Reason.MISSING, message="PBS: it is over, and PBS does not know how it ended")
    code = int(status)
    if code < 0:
        reason, what = ENDS.get(code, (Reason.ERROR, comment or "an error of its own"))
        return End(reason, message=f"PBS: {what} (Exit_status {code})")
    return _of_code(record, code, comment, deleted=deleted)


def _of_code(record: Record, code: int, comment: str, *, deleted: bool) -> End:
    """128 + n and 256 + n: signal n (Administrator's Guide, "Job Exit Status Codes").

    0 says little: a worker that is told to end leaves its outcome, and exits in order.
    """
    signal = code - (256 if code > 256 else 128) if code > 128 else 0
    shown = f"PBS: Exit_status {code}" + (f" ({comment})" if comment else "")
    exit_code = None if signal else code
    if "preempt" in comment.lower():
        return End(Reason.PREEMPTED, exit_code, signal, shown)
    if record.exceeds("walltime"):
        return End(Reason.MAXJOBDURATION, exit_code, signal, f"{shown}: ran longer than its walltime")
    if record.exceeds("mem"):
        return End(Reason.MEMLIMIT, exit_code, signal, f"{shown}: used more memory than it had asked for")
    if deleted:
        return End(Reason.KILLED, exit_code, signal, f"{shown}: deleted")
    if not code and amount(record.attributes.get("run_count", "")) > 1:
        # who came second found that the ticket was taken, and left
        return End(Reason.LOST, message=f"{shown}: PBS has started it again, after its first place was lost")
    return End(Reason.FAILED if code else Reason.FINISHED, exit_code, signal, shown)
