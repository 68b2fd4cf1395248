"""What PBS Professional, OpenPBS and Torque have in common: their ancestor, and `qsub`, `qstat`, `qselect`, `qdel`.

What they say when something goes wrong has the same words in each: src/lib/Liblog/pbs_messages.c of OpenPBS,
src/lib/Liblog/pbs_messages.c of Torque ("MSG=…" comes on top there), and the exit code is the number of the error,
modulo 256: 153 is 15001, "Unknown Job Id"; 35 is 15139, "Job has finished".
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from orch.adapters.batch.dialect import Answer, Command, NotTaken, Order, Refused, Room, Seen, Trouble
from orch.adapters.pbs.qstat import Record, number, read
from orch.adapters.pbs.words import COUNTED, not_here, split

MOST_TASKS = 1000
"""Tasks of an array, if nothing else is said. PBS takes 10,000 (max_array_size), and some sites ten."""

NAMED = "ORCHNAME"
"""The variable by which a submission is found again: its name."""

_SKEW = 3600.0
"""Seconds by which the server's clock may be behind, when it is asked for what came since then."""

_GONE = re.compile(
    r"unknown job ?id|job has finished|request invalid for (state of job|finished array subjob)"
    r"|delete already in progress|also deleted job history",
    re.IGNORECASE,
)
"""Nothing is left of a job: no trouble."""

_LATER = re.compile(
    r"maximum number of jobs already in queue|would exceed|exceeds? .*limit of jobs|queue is not enabled"
    r"|server shutting down|no free connections|connection table full|resource temporarily unavailable"
    r"|floating license unavailable|failed to save job",
    re.IGNORECASE,
)
"""The server has answered: not now."""

_TROUBLE = re.compile(
    r"connect|communicat|timed? ?out|errno|end of file|premature end|protocol|internal error|system error"
    r"|(invalid|expired) credential|pbs_iff|trqauthd|munge|no route to host|server database|background qsub",
    re.IGNORECASE,
)
"""It has not, or not in its senses. "Invalid credential" is what too many calls at once get."""

_SUBMITTED = re.compile(r"\d+(\[\])?(\.[\w.\-]+)?(@[\w.\-]+)?")


def kilobytes(size: int) -> str:
    """A size as PBS reads it, rounded up."""
    return f"{math.ceil(size / 1024)}kb"


class Qsub:
    """Half a dialect (`orch.adapters.batch.dialect.Dialect`): what PBS and Torque do alike.

    `backend_keys`: what a job may pass through in `backend={…}`.
    """

    name = ""
    index_variable = ""
    job_variable = "PBS_JOBID"
    most_asked = 1000  # their ids are 25 KB of arguments, about
    lag = 1.0
    array_option = ""
    backend_keys: Collection[str] | None = ()

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._options = options
        self.most_tasks = int(self._option("array-size") or MOST_TASKS)

    def _option(self, name: str) -> str:
        return self._options.get(f"{self.name}-{name}", "")

    def check(self) -> None:
        """Each setting for itself was looked at when it was given."""

    # Submitting -----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> Command:
        """The script goes in on stdin, so the server keeps it: it is there whenever the job starts."""
        backend = self._backend(order)
        words = ["qsub", *split(self._option("args")), *self._alike(order, backend), *self._asked(order, backend)]
        if order.size > 1:
            words += [self.array_option, f"1-{order.size}"]
        return Command(words, stdin=self._script(order))

    def _alike(self, order: Order, backend: Mapping[str, str]) -> list[str]:
        words = ["-N", job_name(order.label), "-S", "/bin/sh", "-j", "oe", "-o", "/dev/null", "-m", "n"]
        words += ["-v", f"{NAMED}={order.name}"]
        if queue := order.queue or self._option("queue"):
            words += ["-q", queue]
        if account := backend.get("account") or self._option("account"):
            words += ["-A", account]
        if group := backend.get("group"):
            words += ["-W", f"group_list={group}"]
        if order.priority:
            words += ["-p", str(max(-1024, min(1023, order.priority)))]  # qsub(1B), -p
        if order.walltime:
            words += ["-l", f"walltime={math.ceil(order.walltime)}"]
        if further := backend.get("resources"):
            words += ["-l", further]
        return words

    def _asked(self, order: Order, backend: Mapping[str, str]) -> list[str]:
        """How it is said what a task needs."""
        raise NotImplementedError

    def _backend(self, order: Order) -> dict[str, str]:
        given = dict(order.backend)
        known = ", ".join(self.backend_keys or ())
        strange = sorted(given.keys() - set(self.backend_keys or ()))
        if strange and self._options.get("batch-strict") == "true":
            raise Refused(f"backend: {self.name} has no {', '.join(strange)}; it has {known}")
        for name in ("resources", "select", "nodes"):
            if found := COUNTED.search(given.get(name, "")):
                raise Refused(f"backend: {name}: {not_here(found[1])}")
        return given

    def _script(self, order: Order) -> str:
        # -o would have the server's spool copied there at the end, by scp perhaps; this can be read while it runs
        index = f'"${{{self.index_variable}:-1}}"'
        log = index.join(shlex.quote(part) if part else "" for part in order.log.split("{index}"))
        lines = (f"exec </dev/null >>{log} 2>&1", *self._before(order), f"exec {shlex.quote(order.script)}", "")
        return "\n".join(lines)

    def _before(self, order: Order) -> Sequence[str]:
        """Lines of shell that a task begins with."""
        return ()

    def submitted(self, order: Order, answer: Answer) -> str:
        """The last line that is an id: some sites have their `qsub` say more."""
        if answer.code:
            raise self._not_submitted(answer)
        ids = [line for line in map(str.strip, answer.out.splitlines()) if _SUBMITTED.fullmatch(line)]
        if not ids or ("[]" in ids[-1]) != (order.size > 1):
            raise Trouble(f"qsub does not say what it calls the job: {answer.said}")
        return ids[-1]

    def _not_submitted(self, answer: Answer) -> Refused | Trouble:
        words = f"{answer.out}\n{answer.err}"
        if _LATER.search(words):
            return NotTaken(answer.said)
        if _TROUBLE.search(words) or not re.search("^(qsub|PBS): *.", words, re.MULTILINE):
            return Trouble(answer.said)
        if "Array job exceeds" in words:
            return Refused(f"{answer.said} (see {self.name}-array-size: orch has made arrays of {self.most_tasks})")
        return Refused(answer.said)

    def task(self, job: str, index: int, size: int) -> str:
        """Those of "123[].server" are "123[1].server" …"""
        return job.replace("[]", f"[{index}]", 1)

    # Looking --------------------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """Ask for all tasks of these."""
        raise NotImplementedError

    def _records(self, answer: Answer) -> list[Record]:
        """What an answer has; some of the jobs may be known no more. Raises `Trouble`."""
        check(answer)
        try:
            return read(answer.out)
        except ValueError as error:
            raise nonsense(answer, error) from error

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """By task, as `task` calls them: a server may call itself otherwise here than it did to `qsub`."""
        found: dict[str, Seen] = {}
        for answer in answers:
            asked = {number(word): word for word in answer.command.argv if number(word)}
            records = self._records(answer)
            arrays = {each.number: each for each in records if each.is_array}
            for record in records:
                job = asked.get(record.number)
                if job is not None and not record.is_array:
                    task = job if record.task is None else self.task(array_of(job), record.task, 0)
                    found[task] = self._seen(record, arrays.get(record.number))
            for array in arrays.values():
                self._add_forgotten(array, asked.get(array.number, array.id), found)
        return found

    def _seen(self, record: Record, array: Record | None) -> Seen:
        """One task; the array that it is of, if that was told of."""
        raise NotImplementedError

    def _add_forgotten(self, array: Record, job: str, found: dict[str, Seen]) -> None:
        """Tasks of an array that is over, where they are not told of one by one."""

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """`look` has all that there is."""
        return ()

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """Nothing was asked."""
        return {}

    # Finding --------------------------------------------------------------------------------------------------

    def _select(self, since: float) -> str:
        """The words that list this user's submissions since then, those that are over included, for a shell."""
        raise NotImplementedError

    qstat_all = "qstat -f"
    """The words that show them."""

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """`qselect` knows no variables, and `qstat -f` no users: so the one is asked about what the other lists."""
        lines = (
            f"jobs=$({self._select(since)}) || exit",
            f'test -z "$jobs" || echo "$jobs" | xargs {self.qstat_all}',
        )
        return (Command(["/bin/sh", "-c", "\n".join(lines)]),)

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """By the variable that each was given."""
        wanted = set(names)
        records = [record for answer in answers for record in self._records(answer)]
        return {name: array_of(each.id) for each in records if (name := each.variable(NAMED)) in wanted}

    # Ending ---------------------------------------------------------------------------------------------------

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """It sends SIGTERM, and SIGKILL after the queue's kill_delay."""
        return (Command(["qdel", *tasks]),) if tasks else ()

    def cancelled(self, answer: Answer) -> None:
        """What is over, or was never there, need not be ended."""
        check(answer)

    # What there is --------------------------------------------------------------------------------------------

    def survey(self) -> Sequence[Command]:
        """All nodes."""
        return (Command(["pbsnodes", "-a"]),)

    def room(self, answers: Sequence[Answer]) -> Room:
        """What they have."""
        nodes = []
        for answer in answers:
            if answer.code:
                raise Trouble(answer.said)
            nodes += list(nodes_of(answer.out))
        if not nodes:
            raise Trouble("pbsnodes has no nodes")
        return self._room(nodes)

    def _room(self, nodes: Sequence[Mapping[str, str]]) -> Room:
        raise NotImplementedError


def job_name(label: str) -> str:
    """What people see in the queue. 15 characters: Torque and old releases of PBS take no more, and `qstat` shows none.

    Printable, without spaces, the first one a letter (qsub(1B) of Torque, -N; of OpenPBS, where it is 236).
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", label).strip("_")
    return (plain if plain[:1].isalpha() else f"o_{plain}")[:15].rstrip("_")


def array_of(job: str) -> str:
    """The array of a task, or a job that is none."""
    return re.sub(r"\[\d+\]", "[]", job, count=1)


def check(answer: Answer) -> None:
    """Raises `Trouble` where a command has failed, and not for jobs that are gone only."""
    if answer.code:
        lines = answer.err.splitlines()
        others = [line for line in lines if re.match(r"q\w+: ", line) and not _GONE.search(line)]
        if others or not any(_GONE.search(line) for line in lines):
            raise Trouble(answer.said)


def nonsense(answer: Answer, error: ValueError) -> Trouble:
    """It cannot be read, and why."""
    return Trouble(f"what qstat says cannot be read ({error}): {answer.said}")


def nodes_of(text: str) -> Iterable[dict[str, str]]:
    """Of `pbsnodes -a`: a line with the name of each, then "key = value", indented."""
    node: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line[0].isspace():
            if node:
                yield node
            node = {}
        elif match := re.fullmatch(r"\s+([\w.]+) = (.*)", line):
            node[match[1]] = match[2]
    if node:
        yield node


def since_text(since: float) -> str:
    """A point in time as `qselect -t` takes it, in the zone of this host, and somewhat early: [[CC]YY]MMDDhhmm[.SS]."""
    return time.strftime("%Y%m%d%H%M.%S", time.localtime(max(0.0, since - _SKEW)))
