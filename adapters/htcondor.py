"""HTCondor: `condor_submit`, `condor_q`, `condor_history`, `condor_rm`. Pages are of the HTCondor Manual.

A cluster of jobs is a submission. HTCondor likes to start a job again that it has evicted, and keeps what went wrong
on hold for ever; a ticket is for one start only, so a job removes itself from both (`_removed_when`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orch.adapters import htcondor_answers
from orch.adapters.batch.dialect import (
    Answer,
    Command,
    NotTaken,
    Order,
    Refused,
    Room,
    Seen,
    Trouble,
)
from orch.adapters.htcondor_answers import BY_SOMEBODY, HELD, HOLDS, IDLE, RUNNING
from orch.bus.events import Accelerator
from orch.errors import UserError

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter

UNREACHABLE = re.compile(
    r"Can.t find address|Failed to connect|Couldn.t contact|No such schedd|AUTHENTICATE", re.IGNORECASE
)
"""It was not even asked: the schedd does not run or does not know us (condor_submit, "Exit Status")."""

FULL = re.compile(r"MAX_JOBS_(SUBMITTED|PER_OWNER)|would exceed.*(OWNER|SUBMITTED)", re.IGNORECASE)

OWN = re.compile(
    r"\+?(my\.)?(request_?(cpus|memory)|executable|cmd|arguments|args|queue|output|out|error|err|universe|environment|env"
    r"|periodic_?remove|orchname)",
    re.IGNORECASE,
)
"""Lines of a submit description that are orch's to write."""

SCAN = 20_000
"""Records of the history that are looked at, the latest first: a site keeps millions."""

HELD_FOR = 600
"""Seconds for which a job that will not go on stays on hold, for people to look at it."""


class HTCondorDialect:
    """HTCondor, as `orch.adapters.batch.dialect.Dialect` has it."""

    name = "htcondor"
    index_variable = "ORCH_TASK_INDEX"
    job_variable = "ORCH_TASK_ID"
    most_tasks = 1000
    most_asked = 200
    lag = 1.0
    backend_keys: Collection[str] | None = None

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._options = options

    def check(self) -> None:
        """Raises `UserError` for lines that are orch's to write."""
        try:
            parameters(self._options.get("htcondor-params", ""))
        except ValueError as error:
            raise UserError(f"htcondor-params ($ORCH_HTCONDOR_PARAMS): {error}") from error

    def _call(self, program: str, *words: str, where: bool = True, **more: Any) -> Command:
        """A command to the schedd, and the pool, that are set."""
        flags = {"-name": "htcondor-schedd" if where else "", "-pool": "htcondor-pool"}
        place = [
            word for flag, name in flags.items() if self._options.get(name) for word in (flag, self._options[name])
        ]
        return Command([program, *place, *words], env={"LC_ALL": "C.UTF-8"}, **more)

    # Submission -----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> Command:
        """`condor_submit`, with a description on stdin. It would open each output file itself, but for `-disable`."""
        return self._call("condor_submit", "-terse", "-disable", "-", stdin=self._description(order))

    def _description(self, order: Order) -> str:
        """A submit description (condor_submit, "Submit Description File Commands"). The last line of a name counts."""
        log = _plain(order.log).replace("{index}", "$(orch_index)")
        task = f"{self.index_variable}=$(orch_index) {self.job_variable}=$(Cluster).$(Process)"
        lines = {
            "universe": "vanilla",
            "executable": _plain(order.script),
            "transfer_executable": "False",  # nodes see the store
            "should_transfer_files": "IF_NEEDED",  # else only machines of the same FILESYSTEM_DOMAIN would do
            "when_to_transfer_output": "ON_EXIT",
            "transfer_output_files": '""',
            "output": log,
            "error": log,
            "environment": f'"{task}"',
            "getenv": "False",
            "notification": "Never",
            "priority": str(order.priority),
            "want_graceful_removal": "True",
            "job_max_vacate_time": str(math.ceil(order.grace)),
            "periodic_remove": _removed_when(order.walltime),
            "+OrchName": _string(order.name),
            "+JobBatchName": _string(order.label or order.name),
        }
        lines |= _requests(order)
        if group := self._options.get("htcondor-accounting-group"):
            lines["accounting_group"] = _plain(group)
        lines |= parameters(self._options.get("htcondor-params", ""))
        lines |= _backend(order)
        tasks = " ".join(str(index) for index in range(1, order.size + 1))
        return "\n".join([*(f"{key} = {value}" for key, value in lines.items()), f"queue orch_index in ({tasks})", ""])

    def submitted(self, order: Order, answer: Answer) -> str:
        """The cluster in "12.0 - 12.9"."""
        if not answer.code and (match := re.search(r"^(\d+)\.\d+ - \d+\.\d+", answer.out, re.MULTILINE)):
            return match[1]
        if UNREACHABLE.search(answer.said) or FULL.search(answer.said):
            raise NotTaken(answer.said)
        if answer.code and _final(answer.said):
            raise Refused(answer.said)
        raise Trouble(answer.said)

    def task(self, job: str, index: int, size: int) -> str:
        """`12.0`: HTCondor counts from 0."""
        return f"{job}.{index - 1}"

    # Looking --------------------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """`condor_q` of these clusters."""
        return [self._call("condor_q", "-json", "-attributes", ",".join(htcondor_answers.ATTRIBUTES), *jobs)]

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """What stands in the queue."""
        ads = [ad for answer in answers for ad in htcondor_answers.ads(answer)]
        return {htcondor_answers.key(ad): htcondor_answers.seen(ad) for ad in ads}

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """`condor_history` of these. It cannot be bounded by time: what was removed has no date of completion."""
        clusters: dict[str, list[str]] = {}
        for task in tasks:
            cluster, _, process = task.partition(".")
            clusters.setdefault(cluster, []).append(process)
        these = [f"(ClusterId == {job} && member(ProcId, {{{', '.join(own)}}}))" for job, own in clusters.items()]
        return [self._history(" || ".join(these), htcondor_answers.ATTRIBUTES, len(tasks))]

    def _history(self, constraint: str, attributes: Iterable[str], limit: int) -> Command:
        bounds = ["-limit", str(limit), "-scanlimit", str(SCAN)]
        shown = ["-json", "-attributes", ",".join(attributes)]
        return self._call("condor_history", *shown, *bounds, "-constraint", constraint)

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """How they left the queue. The latest comes first."""
        found: dict[str, Seen] = {}
        for answer in answers:
            for ad in htcondor_answers.ads(answer):
                found.setdefault(htcondor_answers.key(ad), htcondor_answers.gone(ad))
        return found

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """Among what is queued, and what was: by an attribute of our own."""
        these = f"member(OrchName, {{{', '.join(_string(name) for name in names)}}})"
        shown = ["ClusterId", "ProcId", "OrchName"]
        queue = self._call("condor_q", "-json", "-attributes", ",".join(shown), "-constraint", these)
        return [queue, self._history(f"{these} && ProcId == 0", shown, len(names))]

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """Their clusters."""
        ads = [ad for answer in answers for ad in htcondor_answers.ads(answer)]
        return {ad["OrchName"]: str(ad["ClusterId"]) for ad in ads if ad.get("OrchName") in names}

    # Ending ---------------------------------------------------------------------------------------------------

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """`condor_rm`: SIGTERM, and SIGKILL after `job_max_vacate_time`, or earlier if the machine says so."""
        return [self._call("condor_rm", *tasks)]

    def cancelled(self, answer: Answer) -> None:
        """Each task has a line: it is marked for removal, was so before, or is not there."""
        for line in (answer.out + "\n" + answer.err).splitlines():
            if line.strip() and not re.search(r"marked for removal|not found|Couldn.t find/remove all", line):
                raise Trouble(line.strip())

    # What there is --------------------------------------------------------------------------------------------

    def survey(self) -> Sequence[Command]:
        """The slots, each with what it has in all: those that were cut off for a job are part of another."""
        shown = "TotalSlotCpus,TotalSlotMemory,TotalSlotGPUs"
        slots = 'SlotType =!= "Dynamic"'
        return [self._call("condor_status", "-json", "-attributes", shown, "-constraint", slots, where=False)]

    def room(self, answers: Sequence[Answer]) -> Room:
        """Cores, memory (MiB there) and GPUs (Machine ClassAd Attributes)."""
        slots = [ad for answer in answers for ad in htcondor_answers.ads(answer)]
        cores = [float(ad.get("TotalSlotCpus", 0)) for ad in slots]
        memory = [int(ad.get("TotalSlotMemory", 0)) for ad in slots]
        gpus = max((int(ad.get("TotalSlotGPUs", 0)) for ad in slots), default=0)
        devices = (Accelerator("gpu", gpus),) if gpus else ()
        return Room(sum(cores), max(cores, default=0), max(memory, default=0) * 1024**2, devices)


def parameters(text: str) -> dict[str, str]:
    """Lines of a submit description. Raises `ValueError` for those that are orch's to write."""
    lines: dict[str, str] = {}
    for line in re.split(r"[;\n]", text):
        name, equals, value = (part.strip() for part in line.partition("="))
        if OWN.fullmatch(name):
            raise ValueError(
                f"{name}: what a job needs, what it runs and where its output goes is orch's to say; "
                f"give jobs cores= and memory="
            )
        if equals and name:
            lines[name] = value
        elif line.strip():
            raise ValueError(f"{line.strip()!r} is not NAME = VALUE; between several stands a ;")
    return lines


def adapter() -> Adapter:
    """For the registry."""
    from orch.adapters.batch.adapter import BatchAdapter  # what only runs on batch systems need

    return BatchAdapter("htcondor", HTCondorDialect)


def _final(said: str) -> bool:
    """Is it refused for good? The pool's rules (SUBMIT_REQUIREMENT_…) are told in a line after that of the commit."""
    if "Failed to commit" in said:
        return said.count("ERROR:") > 1
    return "ERROR:" in said and ("submit file" in said or not htcondor_answers.UNSURE.search(said))


def _plain(text: str) -> str:
    """A value that stands for itself. Raises `Refused` for what no line can hold."""
    if "\n" in text or text != text.strip() or text.endswith("\\"):
        raise Refused(f"no submit description of HTCondor can name {text!r}")
    return text.replace("$", "$(DOLLAR)")


def _string(text: str) -> str:
    """A ClassAd string (ClassAd Mechanism, "Literals")."""
    line = " ".join(text.split())[:200].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{line.replace("$", "$(DOLLAR)")}"'


def _requests(order: Order) -> dict[str, str]:
    """What it needs: memory in MiB, disk in KiB (condor_submit, request_memory, request_disk, require_gpus)."""
    lines = {"request_cpus": str(order.cores)}
    if order.memory:
        lines["request_memory"] = str(math.ceil(order.memory / 1024**2))
    if order.disk:
        lines["request_disk"] = str(math.ceil(order.disk / 1024))
    for wanted in order.accelerators:
        if wanted.kind != "gpu" or len(order.accelerators) > 1:
            raise Refused(f"HTCondor is asked for GPUs of one model only, not for {wanted.kind}: say it with backend=…")
        lines["request_gpus"] = str(wanted.count)
        if wanted.model:
            lines["require_gpus"] = f'regexp({_string(wanted.model)}, DeviceName, "i")'
    return lines


def _backend(order: Order) -> dict[str, str]:
    """What a job passes through: any lines, as there are no names that HTCondor does not know. Raises `Refused`."""
    for key, value in order.backend:
        if OWN.fullmatch(key.strip()) or not key.strip() or "\n" in key + value:
            raise Refused(f"backend: {key!r} is not for jobs to say: see cores=, memory= and walltime=")
    return {key.strip(): value.strip() for key, value in order.backend}


def _removed_when(walltime: float) -> str:
    """The expression by which a job removes itself: evicted, held without hope, over its time.

    An expression that is undefined would put the job on hold (HoldReasonCode 5); so what may be undefined is looked at
    with =?= first, and FALSE && UNDEFINED is FALSE (ClassAd Mechanism, "Operators").
    """
    started = "(NumJobStarts =!= UNDEFINED && NumJobStarts > 0)"
    hopeless = f"member(HoldReasonCode, {{{', '.join(map(str, HOLDS))}}})"
    by_somebody = f"member(HoldReasonCode, {{{', '.join(map(str, BY_SOMEBODY))}}})"
    for_long = f"time() - EnteredCurrentStatus > {HELD_FOR}"
    held = f"JobStatus =?= {HELD} && HoldReasonCode =!= UNDEFINED && {for_long}"
    when = [f"(JobStatus =?= {IDLE} && {started})", f"({held} && !{by_somebody} && ({started} || {hopeless}))"]
    if walltime:
        over = f"time() - JobCurrentStartDate > {math.ceil(walltime)}"
        when.append(f"(JobStatus =?= {RUNNING} && JobCurrentStartDate =!= UNDEFINED && {over})")
    return " || ".join(when)
