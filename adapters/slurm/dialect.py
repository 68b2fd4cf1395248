"""What is particular to Slurm.

What was seen on Slurm 22.05, and is not in the manual:

- `--export=NONE`, `NIL` or a list of names all make slurmd run the user's login shell on the node, to get his variables
  (SLURM_GET_USER_ENV). With `--export-file` of an empty file there is no shell, and nothing of the leader's leaks.
- squeue shows a pending task of an array that was cancelled no more, although it shows other cancelled ones for
  MinJobAge; sacct has it in a line for many, "37_[3-20]", in which others may stand that have a line of their own: that
  one counts.
- `squeue -j` fails for one unknown id ("Invalid job id specified"), and not for several.
- sbatch can refuse a job, and leave a record of it all the same (FAILED, BadConstraints).
- A signal that is to come before the time limit may come 60 s too early, so that a job of a minute gets it at once; and
  who leaves because of it counts as COMPLETED. Without one, a batch script gets SIGTERM at the limit, and KillWait
  (30 s, mostly) later SIGKILL; its state is TIMEOUT, whatever it exits with.
- A backslash in `--output` switches all patterns off, and is taken out itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from orch.adapters.batch.dialect import Answer, Command, Order, Refused, Room, Seen, Stage, Trouble
from orch.adapters.batch.portions import MARGIN
from orch.adapters.slurm import answers as said
from orch.adapters.slurm import arguments, ids, partitions, states
from orch.errors import UserError
from orch.sizes import parse_duration

_COLUMNS = (("JobArrayID", 32), ("State", 24), ("exit_code", 12), ("BatchHost", 72), ("Reason", 64))
"""Fixed widths (squeue(1), --Format): so no delimiter can stand in what is between them."""

_SKEW = 3600
"""Seconds by which the clocks of the leader and of the accounting may differ."""

_LONGEST_COMMENT = 200


class Slurm:
    """One Slurm cluster, the one that its commands on this host talk to.

    `most_tasks` and which partitions there are is known once `room` has had an answer.
    """

    name = "slurm"
    index_variable = "SLURM_ARRAY_TASK_ID"
    job_variable = "SLURM_JOB_ID"
    most_asked = 1000
    lag = 10.0
    backend_keys = arguments.BACKEND

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.most_tasks = 1000  # MaxArraySize is 1001, if nobody has said otherwise
        self._options = options
        self._partitions: list[partitions.Partition] = []
        self._env = arguments.variables(environment)
        self._site = environment.get("SBATCH_PARTITION", "")

    def check(self) -> None:
        """Can what the user has said stand beside what orch says?"""
        try:
            self._more()
        except ValueError as error:
            raise UserError(f"slurm-args: {error}") from error

    def _more(self) -> list[str]:
        return arguments.more(self._options.get("slurm-args", ""))

    def _command(self, *argv: str, utc: bool = False) -> Command:
        return Command(list(argv), env={**self._env, "SLURM_BITSTR_LEN": "0", **({"TZ": "UTC"} if utc else {})})

    # Submissions ----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> Command:
        """`sbatch`: the user's arguments, the job's own, and then what nobody else may say."""
        try:
            more = self._more()
            passed, unknown = arguments.passed(order.backend)
            given = arguments.names([*more, *passed])
            wanted = self._wanted(order, given)
        except ValueError as error:
            raise Refused(str(error)) from error
        if unknown and self._options.get("batch-strict") == "true":
            raise Refused(f"sbatch has no option {', '.join(unknown)} (backend={{…}} of the job)")
        return self._command("sbatch", *more, *wanted, *passed, *_fixed(order), order.script)

    def _wanted(self, order: Order, given: set[str]) -> list[str]:
        """What the job asks for. Of what is `given` already, the job's own word counts, else that stands."""
        partition = self._partition(order, given)
        found = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={order.cores}", *_devices(order)]
        if order.memory:
            found.append(f"--mem={math.ceil(order.memory / partitions.MIB)}M")
        if order.walltime:
            found.append(f"--time={self._minutes(order, partition)}")
        if partition:
            found.append(f"--partition={partition}")
        chosen = {
            "account": self._options.get("slurm-account"),
            "qos": self._preemptible("qos", order) or self._options.get("slurm-qos"),
            "comment": _comment(order.label),
        }
        found += [f"--{name}={value}" for name, value in chosen.items() if value and name not in given]
        if (warning := self._options.get("slurm-warning")) and "signal" not in given:
            found.append(f"--signal=B:XCPU@{math.ceil(parse_duration(warning))}")
        return found

    def _partition(self, order: Order, given: set[str]) -> str:
        """Where it goes; empty: where the site's own default, or what is `given`, says."""
        if order.queue or "partition" in given:
            return order.queue
        named = self._preemptible("partition", order) or self._options.get("slurm-partition") or self._site
        return named or partitions.choose(self._partitions, order)

    def _preemptible(self, what: str, order: Order) -> str:
        return self._options.get(f"slurm-preemptible-{what}", "") if order.preemptible else ""

    def _minutes(self, order: Order, partition: str) -> int:
        """Slurm counts in minutes. The margin for the worker is given up where the partition leaves no room for it."""
        target = [each for each in self._partitions if (each.name == partition if partition else each.default)]
        limit = target[0].limit if target else 0.0
        wanted = min(order.walltime, limit) if order.walltime <= limit + MARGIN else order.walltime
        return max(1, math.ceil(wanted / 60))

    def submitted(self, order: Order, answer: Answer) -> str:
        """The id of the job, or of the whole array."""
        job = ids.submitted(answer.out) if answer.code == 0 else ""
        if not job:
            said.refuse(answer)
        return job

    def task(self, job: str, index: int, size: int) -> str:
        """Task 4 of the array 123 is "123_4"."""
        return job if size == 1 else f"{job}_{index}"

    # Questions ------------------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """One `squeue`; it also shows what has ended within MinJobAge (300 s, mostly), and how."""
        columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS)
        argv = ["squeue", "--noheader", "--me", "--array", "--states=all", f"--jobs={','.join(jobs)}"]
        return [self._command(*argv, f"--Format={columns}")]

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task."""
        rows: list[list[str]] = []
        for answer in answers:
            if answer.code and said.GONE.search(answer.err):
                continue
            rows += [_cut(line) for line in said.expect(answer).splitlines() if _tells(line)]
        return _by_task(rows, _of_squeue)

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """One `sacct`, bounded by ids and time: whole tables of years are read for one that is not (sacct(1))."""
        jobs = ",".join(dict.fromkeys(ids.job(task) for task in tasks))
        return [self._sacct(since, f"--jobs={jobs}", "--format=JobID,State,ExitCode,NodeList,Reason")]

    def _sacct(self, since: float, *argv: str) -> Command:
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(max(0.0, since - _SKEW)))
        basic = ("sacct", "--noheader", "--parsable2", "--allocations", f"--starttime={start}", "--endtime=now+1hour")
        return self._command(*basic, *argv, utc=True)

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task, what has ended. What accounting takes for alive and slurmctld does not know is not told of.

        (A record that lacks its end may lack it for ever: "runaway jobs", sacctmgr(1).)
        """
        rows: list[list[str]] = []
        for answer in answers:
            if not (answer.code and said.NO_RECORDS.search(answer.err)):
                rows += [line.split("|", 4) for line in said.expect(answer).splitlines() if _tells(line)]
        return {task: seen for task, seen in _by_task(rows, _of_sacct).items() if seen.stage is Stage.OVER}

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """By the name of the job: both can be asked for that."""
        by_name = f"--name={','.join(names)}"
        queue = self._command("squeue", "--noheader", "--me", "--states=all", by_name, "--format=%F|%j")
        return [queue, self._sacct(since, by_name, "--format=JobID,JobName")]

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """By name; of several jobs of one name, the last. Without accounting, what is long over is not found."""
        jobs: dict[str, int] = {}
        for answer in answers:
            if answer.code and said.NO_RECORDS.search(answer.err):
                continue
            for line in said.expect(answer).splitlines():
                job, _, name = line.strip().partition("|")
                if name in names and ids.expand(job):
                    jobs[name] = max(int(ids.job(job)), jobs.get(name, 0))
        return {name: str(job) for name, job in jobs.items()}

    # Ending ---------------------------------------------------------------------------------------------------

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """SIGTERM to all of it, the batch script included, SIGKILL after KillWait (scancel(1), seen)."""
        return [self._command("scancel", *ids.together(tasks))]

    def cancelled(self, answer: Answer) -> None:
        """Has it been heard? One that is over, or not known, needs no ending."""
        errors = [line for line in answer.err.splitlines() if "error" in line and not said.GONE.search(line)]
        if errors or (answer.code and not said.GONE.search(answer.err)):
            raise Trouble(said.words(answer))

    # What there is --------------------------------------------------------------------------------------------

    def survey(self) -> Sequence[Command]:
        """Partitions, and how large arrays may be."""
        sinfo = self._command("sinfo", "--noheader", "--exact", f"--format={partitions.FORMAT}")
        return [sinfo, self._command("scontrol", "show", "config")]

    def room(self, answers: Sequence[Answer]) -> Room:
        """What there is; kept, so that a partition can be chosen."""
        sinfo, config = answers
        if not config.code:
            self.most_tasks = partitions.most_tasks(config.out) or self.most_tasks
        self._partitions = partitions.read(said.expect(sinfo))
        return partitions.room(self._partitions)


def _fixed(order: Order) -> list[str]:
    """What orch relies on. `--name` can be searched for; the label is a comment for people."""
    found = ["--parsable", "--no-requeue", "--export-file=/dev/null", "--chdir=/", "--open-mode=append"]
    found += ["--input=/dev/null", f"--job-name={order.name}", f"--output={_log(order)}"]
    if order.size > 1:
        found.append(f"--array=1-{order.size}")
    return found


def _log(order: Order) -> str:
    """As a filename pattern (sbatch(1))."""
    if "\\" in order.log:
        return "/dev/null"
    return order.log.replace("%", "%%").replace("{index}", "%a" if order.size > 1 else "1")


def _devices(order: Order) -> list[str]:
    wanted = [
        ":".join([each.kind, *([each.model] if each.model else []), str(each.count)]) for each in order.accelerators
    ]
    return [f"--gres={','.join(wanted)}"] if wanted else []


def _comment(label: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in label).split())[:_LONGEST_COMMENT]


def _tells(line: str) -> bool:
    """Is it about a job? With several clusters (SLURM_CLUSTERS) there is a line for each of them."""
    return bool(line.strip()) and not line.startswith("CLUSTER:")


def _cut(line: str) -> list[str]:
    fields, at = [], 0
    for _, width in _COLUMNS:
        fields.append(line[at : at + width].strip())
        at += width
    return fields


def _by_task(rows: Sequence[Sequence[str]], read: Callable[[Sequence[str]], Seen]) -> dict[str, Seen]:
    """Lines by the tasks that they are about; one for a single task counts more than one for many."""
    single: dict[str, Seen] = {}
    many: dict[str, Seen] = {}
    for row in rows:
        tasks = ids.expand(row[0])
        try:
            what = read(row)
        except (ValueError, IndexError) as error:
            raise Trouble(f"slurm says {'|'.join(row)[:200]!r}, which makes no sense") from error
        if not tasks:
            raise Trouble(f"slurm says {'|'.join(row)[:200]!r}, which makes no sense")
        (many if "[" in row[0] else single).update(dict.fromkeys(tasks, what))
    return many | single


def _of_squeue(row: Sequence[str]) -> Seen:
    """`exit_code` is a status as wait(2) has it."""
    _, state, status, host, reason = row
    code = int(status)
    return _known(state, code >> 8 & 0xFF, code & 0x7F, reason, host)


def _of_sacct(row: Sequence[str]) -> Seen:
    """`ExitCode` is "status:signal"."""
    _, state, exit_code, host, reason = row
    status, _, signal = exit_code.partition(":")
    return _known(state, int(status), int(signal or 0), reason, host)


def _known(state: str, status: int, signal: int, reason: str, host: str) -> Seen:
    if not state or not state[0].isupper():
        raise ValueError(state)
    return states.seen(state, status, signal, reason, host)
