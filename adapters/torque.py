"""Torque: what is particular to it. The manual pages are those of Torque 6 (doc/man1).

A job that is over is known for keep_completed seconds (state C), which may be none; there are no records after that
that a user could ask for. So "Unknown Job Id" says nothing of how a job ended, and by itself not even that it did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orch.adapters.batch.dialect import Command, End, Order, Refused, Room, Seen, Stage
from orch.adapters.pbs.qstat import Record, amount
from orch.adapters.pbs.qsub import Qsub, kilobytes
from orch.attempt import Reason
from orch.bus.events import Accelerator

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter

# qstat(1B), "Displaying Job Status"
STAGES = {
    "Q": Stage.QUEUED,
    "T": Stage.QUEUED,
    "W": Stage.QUEUED,
    "H": Stage.HELD,
    "R": Stage.RUNNING,
    "S": Stage.RUNNING,
    "E": Stage.ENDING,
    "C": Stage.OVER,
}

# Administrator Guide, "Job Exit Status", "TORQUE Supplied Exit Codes"; -14 is of 6.1.2
ENDS = {
    -1: (Reason.ERROR, "could not be started, before its files were there"),
    -2: (Reason.ERROR, "could not be started, after its files were there"),
    -3: (Reason.LOST, "could not be started; may be tried again"),
    -4: (Reason.LOST, "its node was started again"),
    -5: (Reason.LOST, "its node was started again"),
    -6: (Reason.LOST, "its node was started again"),
    -7: (Reason.LOST, "could not be started again"),
    -8: (Reason.ERROR, "its program could not be executed"),
    -9: (Reason.ERROR, "its stdout and stderr could not be opened"),
    -10: (Reason.MEMLIMIT, "used more memory than it had asked for"),
    -11: (Reason.MAXJOBDURATION, "ran longer than its walltime"),
    -12: (Reason.FAILED, "used more CPU time than is allowed"),
    -13: (Reason.ERROR, "its cgroup could not be made"),
    -14: (Reason.ERROR, "the prologue failed"),
}

CANCELLED = 271
"""exit_status of what was ended by `qdel`: 256 + SIGTERM; also that of what others end so."""


class Torque(Qsub):
    """Torque, whatever schedules it (pbs_sched, Maui, Moab)."""

    name = "torque"
    index_variable = "PBS_ARRAYID"
    array_option = "-t"
    backend_keys = ("account", "group", "nodes", "resources")

    def _asked(self, order: Order, backend: Mapping[str, str]) -> list[str]:
        """All on one node (qsub(1B), -l; Administrator Guide, "Requesting Resources")."""
        node = ["nodes=1", f"ppn={order.cores}", *self._devices(order)]
        node += [part.strip(":") for part in (self._option("reqs"), backend.get("nodes", "")) if part]
        asked = [":".join(node)]
        if order.memory:
            names = (self._option("memory-resource") or "mem").split(",")
            asked += [f"{name.strip()}={kilobytes(self._share(name.strip(), order))}" for name in names]
        return ["-l", ",".join(asked), "-r", "n"]

    @staticmethod
    def _share(resource: str, order: Order) -> int:
        """Of the memory: mem and vmem are of the whole job, pmem and pvmem of one of its cores."""
        return -(-order.memory // order.cores) if resource.startswith("p") else order.memory

    @staticmethod
    def _devices(order: Order) -> list[str]:
        """A model is a property of nodes."""
        parts = []
        for each in order.accelerators:
            if each.kind != "gpu":
                raise Refused(f"Torque has no name for {each.kind} devices: ask for them by backend={{'nodes': …}}")
            parts += [f"gpus={each.count}", *([each.model] if each.model else [])]
        return parts

    def _before(self, order: Order) -> Sequence[str]:
        """PBS_GPUFILE has lines like "node1-gpu0" (Administrator Guide, "Scheduling GPUs"); programs look elsewhere."""
        if not order.accelerators:
            return ()
        numbers = "$(sed -n 's/.*-gpu//p' \"$PBS_GPUFILE\" | paste -s -d , -)"
        return (
            f'test -n "$CUDA_VISIBLE_DEVICES" || ! test -r "$PBS_GPUFILE" || CUDA_VISIBLE_DEVICES={numbers}',
            "export CUDA_VISIBLE_DEVICES",
        )

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """-t: each task of an array."""
        return (Command(["qstat", "-f", "-t", *jobs]),)

    def _seen(self, record: Record, array: Record | None) -> Seen:
        word = record.attributes.get("job_state", "")
        stage = STAGES.get(word, Stage.STRANGE)
        why = record.attributes.get("comment") or record.attributes.get("sched_hint", "")
        if stage is Stage.HELD:
            why = ", ".join(filter(None, [f"held ({record.attributes.get('Hold_Types', '?')})", why]))
        elif stage is not Stage.QUEUED:
            why = "suspended" if word == "S" else ""
        return Seen(stage, word, why, record.host, _end(record) if stage is Stage.OVER else None)

    def _select(self, since: float) -> str:
        return 'qselect -u "$(id -un)"'

    qstat_all = "qstat -f"

    def _room(self, nodes: Sequence[Mapping[str, str]]) -> Room:
        """np: slots, of which a site may have more than cores; status: what the node's own daemon has measured."""
        cores = [amount(node.get("np", "")) for node in nodes]
        memory = [amount(_measured(node, "physmem")) for node in nodes]
        devices = max(amount(node.get("gpus", "")) for node in nodes)
        return Room(
            cores=sum(cores),
            node_cores=max(cores),
            node_memory=int(max(memory)),
            accelerators=(Accelerator(count=int(devices)),) if devices else (),
        )


def _measured(node: Mapping[str, str], name: str) -> str:
    found = re.search(rf"(?:^|,){name}=([^,]*)", node.get("status", ""))
    return found[1] if found else ""


def _end(record: Record) -> End:
    """From exit_status and what was used (Administrator Guide, "Job Exit Status").

    0 says little: a worker that is told to end leaves its outcome, and exits in order.
    """
    status = record.attributes.get("exit_status", "")
    if not re.fullmatch(r"-?\d+", status):
        return End(Reason.MISSING, message="Torque: it is over, and Torque does not say how it ended")
    code = int(status)
    if code < 0:
        reason, what = ENDS.get(code, (Reason.ERROR, "an error of its own"))
        return End(reason, message=f"Torque: {what} (exit_status {code})")
    signal = code - (256 if code > 256 else 128) if code > 128 else 0
    exit_code, shown = None if signal else code, f"Torque: exit_status {code}"
    if record.exceeds("walltime"):
        return End(Reason.MAXJOBDURATION, exit_code, signal, f"{shown}: ran longer than its walltime")
    if record.exceeds("mem") or record.exceeds("vmem"):
        return End(Reason.MEMLIMIT, exit_code, signal, f"{shown}: used more memory than it had asked for")
    if code == CANCELLED:
        return End(Reason.KILLED, None, signal, f"{shown}: ended by qdel, or by another SIGTERM")
    return End(Reason.FAILED if code else Reason.FINISHED, exit_code, signal, shown)


def adapter() -> Adapter:
    """For the registry."""
    from orch.adapters.batch.adapter import BatchAdapter

    return BatchAdapter("torque", Torque)
