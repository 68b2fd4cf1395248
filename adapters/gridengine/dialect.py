"""What is particular to Grid Engine.

What was seen on Son of Grid Engine 8.1, and is not in the manuals:

- With `-b y` and a shell, the command is put together to one text, and quotes and spaces in it are read anew. With
  `-shell n` it is executed as it is, but for what follows a line break.
- `-o`: a path may hold anything but ",", which begins another path, and "$", which begins a variable.
- A task that has ended is known neither to qstat nor to qacct for a second; `accounting_flush_time` may make it more.
  A queued one that is deleted leaves no record; one that could not be started leaves one without times, which `-b`
  of qacct leaves out. One that is started again leaves a record for each time.
- qdel of a task that runs looks like `kill -9` afterwards. With `-notify` it gets SIGUSR2 first; if it ends because of
  that, its record has its own exit code. The record of one that has come to a limit has `failed` 37 in any case.
- Signals go to the process group only, SIGKILL to more if ENABLE_ADDGRP_KILL is set (sge_conf(5)).
- `h_vmem` is the limit of each process (RLIMIT_AS), at which malloc fails, and that of all of them together, at which
  the job is killed: `failed` is 37, and `maxvmem` is beyond it.
- A job name with a character that is not allowed makes qsub say "Error reading answer list from qmaster".
- "<" in the name of a job is "%lt;" in XML.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping, Sequence

from orch.adapters.batch.dialect import Answer, Command, Order, Refused, Room, Seen, Trouble
from orch.adapters.gridengine import answers as said
from orch.adapters.gridengine import arguments, queue, records, site
from orch.errors import UserError

_QUIET: dict[str, str | None] = {"LC_ALL": "C", "LANGUAGE": None, "MORE_INFO": None, "SGE_DEBUG_LEVEL": None}
"""Variables that would change answers: their language, or that there is more in them (qstat(1))."""

_ONE_BY_ONE = 4
"""Jobs that are asked for on their own. For more, all records of the user are read: each call reads the whole file."""

_EXPLAINED = 20
"""Jobs of which it is asked at once why they do not run."""

_LEAST_PRIORITY = -1023

_MOST_TASKS = 1000
"""Of an array, unless the site says less."""


class GridEngine:
    """One cell, the one that its commands on this host talk to.

    What the site counts is known once `room` has had an answer; why jobs do not run, once that was asked for.
    """

    name = "gridengine"
    index_variable = "SGE_TASK_ID"
    job_variable = "JOB_ID"
    most_asked = 100_000
    lag = 16.0

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.most_tasks = _MOST_TASKS
        self._options = options
        self._user = _user(environment)
        self._complexes: dict[str, site.Complex] = {}
        self._environments: list[str] = []
        self._puzzling: list[str] = []  # jobs that wait, by the last look
        self._whys: dict[str, str] = {}

    @property
    def backend_keys(self) -> frozenset[str] | None:
        """Options of qsub that a job may pass, and the resources of the site; None: those are not known."""
        return arguments.BACKEND | self._complexes.keys() if self._complexes else None

    def check(self) -> None:
        """Can what the user has said stand beside what orch says?"""
        try:
            self._more()
        except ValueError as error:
            raise UserError(f"gridengine-args: {error}") from error

    def _option(self, name: str, otherwise: str = "") -> str:
        return self._options.get(f"gridengine-{name}", "") or otherwise

    def _memory(self) -> list[str]:
        return site.memory_resources(self._complexes, self._option("memory-resource"))

    def _more(self) -> list[str]:
        return arguments.more(self._option("args"), self._memory())

    # Submissions ----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> Command:
        """`qsub`: the user's arguments, the job's own, and then what nobody else may say."""
        try:
            more = self._more()
            passed = arguments.passed(order.backend, self._memory())
            wanted = self._wanted(order)
        except ValueError as error:
            raise Refused(str(error)) from error
        self._strict(order)
        if "\n" in order.script + order.log:
            raise Refused("Grid Engine takes no path with a line break in it, and that of the store has one")
        return Command(["qsub", *more, *wanted, *passed, *_fixed(order), *_program(order)], env=_QUIET)

    def _strict(self, order: Order) -> None:
        known = self.backend_keys
        unknown = [key for key, _ in order.backend if known is not None and key not in known]
        if unknown and self._options.get("batch-strict") == "true":
            raise Refused(f"this Grid Engine has no {', '.join(unknown)} (backend={{…}} of the job)")

    def _wanted(self, order: Order) -> list[str]:
        """What the job asks for."""
        found = []
        if order.cores > 1:
            found += ["-pe", self._environment(order.cores), str(order.cores)]
        if target := order.queue or self._option("queue"):
            found += ["-q", target]
        if project := self._option("project"):
            found += ["-P", project]
        if order.priority < 0:  # only operators may raise it (submit(1), -p)
            found += ["-p", str(max(order.priority, _LEAST_PRIORITY))]
        for resource in self._resources(order):
            found += ["-l", resource]
        return found

    def _environment(self, cores: int) -> str:
        name = self._option("pe")
        if name and (not self._environments or name in self._environments):
            return name
        why = f"there is no {name!r}" if name else "and none is named"
        there = site.choices(self._environments)
        raise ValueError(f"{cores} cores take a parallel environment, {why}: say --gridengine-pe NAME ({there})")

    def _resources(self, order: Order) -> list[str]:
        """For -l: limits and amounts."""
        found = [f"h_rt={max(1, round(order.walltime + 0.5))}"] if order.walltime else []
        amounts = [(name, order.memory) for name in self._memory()] + [(self._option("disk-resource"), order.disk)]
        found += [
            f"{name}={site.amount(self._complexes, name, wanted, order.cores)}"
            for name, wanted in amounts
            if name and wanted
        ]
        for each in order.accelerators:
            if each.kind != "gpu" or each.model:
                raise ValueError(
                    "Grid Engine is told how many GPUs a job wants, and no more: name the rest in backend={…}"
                )
            name = self._option("gpu-resource", "gpu")
            found.append(f"{name}={site.devices(self._complexes, name, each.count, order.cores)}")
        return found

    def submitted(self, order: Order, answer: Answer) -> str:
        """The number of the job: "14", or "14.1-3:1" of an array."""
        words = answer.out.split()
        job = words[-1].partition(".")[0] if words else ""
        if answer.code or not job.isdecimal():
            said.refuse(answer)
        return job

    def task(self, job: str, index: int, size: int) -> str:
        """Task 4 of the array 123 is "123.4"."""
        return job if size == 1 else f"{job}.{index}"

    # Questions ------------------------------------------------------------------------------------------------

    def _qstat(self) -> Command:
        return Command(["qstat", "-xml", "-u", self._user, "-s", "prs"], env=_QUIET)

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """All that the user has; and, of some of these that wait, why."""
        wanted = set(jobs)
        asked = [job for job in self._puzzling if job in wanted][:_EXPLAINED]
        why = [Command(["qstat", "-j", ",".join(asked)], env=_QUIET)] if asked else []
        return [*why, self._qstat()]

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task."""
        lines = [
            line for answer in answers if "-xml" in answer.command.argv for line in queue.read(said.expect(answer))
        ]
        for answer in answers:
            if "-j" in answer.command.argv:
                self._explain(answer)
        self._puzzling = list(
            dict.fromkeys(line.job for line in sorted(lines, key=_errors_first) if queue.waits(line.state))
        )
        return {task: queue.seen(line, self._whys, task) for line in lines for task in line.ids()}

    def _explain(self, answer: Answer) -> None:
        """What it was asked about is explained now, be it by nothing. No answer, or half of one, is no harm."""
        self._whys = dict.fromkeys(answer.command.argv[-1].split(","), "") | queue.explained(answer.out)

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """`qacct` reads all that was ever recorded, each time: so few calls, and those for this user's jobs only."""
        jobs = list(dict.fromkeys(task.partition(".")[0] for task in tasks))
        if len(jobs) <= _ONE_BY_ONE:
            return [self._qacct("-j", job) for job in jobs]
        return [self._qacct("-j", "-b", _stamp(since))]

    def _qacct(self, *argv: str) -> Command:
        return Command(["qacct", *argv, "-o", self._user], env={**_QUIET, "TZ": "UTC"}, timeout=300.0)

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task, the last record. Numbers of jobs come again (after 9,999,999): so only of jobs named by orch."""
        found: dict[str, Seen | None] = {}
        for record in _records(answers):
            if arguments.order_of(record.get("jobname", "")):
                try:
                    found[records.task(record)] = records.seen(record)
                except ValueError as error:
                    raise Trouble(f"qacct: a record that makes no sense: {record}") from error
        return {task: seen for task, seen in found.items() if seen is not None}

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """By name: what is there, and what has ended. One pattern for all, since that reads the records once."""
        name = names[0] if len(names) == 1 else f"{_beginning(names)}*"
        return [self._qstat(), self._qacct("-j", f"*{arguments.MARK}{name}", "-b", _stamp(since))]

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """By name; of several jobs of one name, the last."""
        lines = [
            line for answer in answers if "-xml" in answer.command.argv for line in queue.read(said.expect(answer))
        ]
        there = [(line.name, line.job) for line in lines]
        there += [(record.get("jobname", ""), record["jobnumber"]) for record in _records(answers)]
        wanted, found = set(names), dict[str, int]()
        for text, job in there:
            name = arguments.order_of(text)
            if name in wanted and job.isdecimal():
                found[name] = max(int(job), found.get(name, 0))
        return {name: str(job) for name, job in found.items()}

    # Ending ---------------------------------------------------------------------------------------------------

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """SIGUSR2 (-notify), and SIGKILL after as long as the queue says (queue_conf(5), notify: a minute, mostly)."""
        words = said.together(tasks)
        return [Command(["qdel", *words[at : at + 500]], env=_QUIET) for at in range(0, len(words), 500)]

    def cancelled(self, answer: Answer) -> None:
        """Has it been heard? One that is over, or not known, needs no ending."""
        if answer.code and not said.all_gone(answer):
            raise Trouble(said.words(answer))

    # What there is --------------------------------------------------------------------------------------------

    def survey(self) -> Sequence[Command]:
        """Hosts, resources, parallel environments, and how large arrays may be."""
        questions = (["qhost", "-q", "-xml"], ["qconf", "-sc"], ["qconf", "-spl"], ["qconf", "-sconf"])
        return [Command(argv, env=_QUIET) for argv in questions]

    def room(self, answers: Sequence[Answer]) -> Room:
        """What there is; kept, so that it is known how memory is to be asked for. GPUs are not told of."""
        hosts, complexes, environments, configuration = answers
        if not complexes.code:
            self._complexes = site.read_complexes(complexes.out)
        if not environments.code:
            self._environments = site.read_environments(environments.out)
        self.most_tasks = min(_MOST_TASKS, site.most_tasks(configuration.out) or _MOST_TASKS)
        return site.read_room(said.expect(hosts))


def _user(environment: Mapping[str, str]) -> str:
    """Whose jobs they are: Grid Engine asks the same of the system, whatever the variables say."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return environment.get("USER", "") or str(os.getuid())


def _fixed(order: Order) -> list[str]:
    """What orch relies on, whatever default request files say (sge_request(5)): the last word counts."""
    found = ["-terse", "-N", arguments.job_name(order.label, order.name), "-wd", "/", "-i", "/dev/null"]
    found += ["-j", "y", "-o", f":{_path(order)}" if _plain(order.log) else "/dev/null"]
    found += ["-b", "y", "-shell", "n", "-r", "n", "-notify", "-sync", "n", "-now", "n"]
    if order.size > 1:
        found += ["-t", f"1-{order.size}"]
    return found


def _plain(path: str) -> bool:
    return "," not in path and "$" not in path


def _path(order: Order) -> str:
    return order.log.replace("{index}", "$TASK_ID")


def _program(order: Order) -> list[str]:
    """The script, by an interpreter that is everywhere; where `-o` cannot name the log, that opens it itself."""
    if _plain(order.log):
        return ["/bin/sh", order.script]
    before, index, after = order.log.partition("{index}")
    log = '"$1$SGE_TASK_ID$2"' if index else '"$1"'
    return ["/bin/sh", "-c", f'exec >>{log} 2>&1; exec /bin/sh "$0"', order.script, before, after]


def _beginning(names: Sequence[str]) -> str:
    """What all of them begin with."""
    return os.path.commonprefix(list(names))  # noqa: RUF071  these are no paths: characters are what is meant


def _stamp(since: float) -> str:
    """[[CC]YY]MMDDhhmm[.SS] (qacct(1)), in the time zone that the command is given."""
    return time.strftime("%Y%m%d%H%M.%S", time.gmtime(max(0.0, since)))


def _errors_first(line: queue.Line) -> bool:
    return "E" not in line.state


def _records(answers: Sequence[Answer]) -> list[dict[str, str]]:
    """Of those answers that are from qacct. That there is none, or that nobody keeps any, is none."""
    found = []
    for answer in answers:
        if answer.command.argv[0] == "qacct" and not (answer.code and said.NO_RECORDS.search(answer.said)):
            found += list(records.blocks(said.expect(answer)))
    return found
