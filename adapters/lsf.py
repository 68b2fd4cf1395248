"""LSF: `bsub`, `bjobs`, `bhist`, `bkill`.

Pages are of the IBM Spectrum LSF 10.1 documentation. `bjobs` is asked for JSON, and for a table where it is older than
10.1.0.2. What is remembered between calls is what the site has said of itself: that `bjobs` knows no JSON, how large
arrays may be, and what memory is reserved for.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orch.adapters import lsf_answers
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
from orch.errors import UserError

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter

NOT_ASKED = re.compile(r"LIM (is|configuration)|not responding|LSF is down|cannot connect|refused", re.IGNORECASE)
"""Nobody was there who could have taken it."""

FULL = re.compile(
    r"threshold|reached its job limit|queue has been closed|enough .*job slots|MAX_PEND|limit .*reached", re.IGNORECASE
)
"""It takes no more just now."""

OWN = ["-J", "-Jd", "-n", "-M", "-o", "-oo", "-e", "-eo", "-i", "-K", "-B", "-N", "-pack"]
"""What orch says itself, or what would make `bsub` wait, as -I… would: not for the user's arguments."""

QUIET = {
    "BSUB_QUIET": None,  # no "Job <1> is submitted"
    "BSUB_BLOCK": None,  # waits until the job has ended
    "BSUB_CHK_RESREQ": None,  # submits nothing
    "LSB_NTRIES": "2",  # else commands try for ever (lsf.conf reference, LSB_NTRIES)
    "LC_ALL": "C.UTF-8",
}
"""The variables by which a user has other answers (LSF configuration reference, "Environment variable reference")."""

UNITS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


class LsfDialect:
    """LSF, as `orch.adapters.batch.dialect.Dialect` has it."""

    name = "lsf"
    backend_keys: Collection[str] | None = frozenset(
        {"app", "a", "E", "G", "gpu", "L", "m", "P", "R", "sla", "sp", "U", "w", "wa", "wt", "x"}
    )
    """Options of `bsub`, without the dash. "x" takes no value."""
    index_variable = "LSB_JOBINDEX"
    job_variable = "LSB_JOBID"
    most_asked = 200
    lag = 5.0  # what bjobs shows may be that old (lsb.params: MBD_REFRESH_TIME)

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._options = options
        self._json = True
        self._per_core = options.get("lsf-memory-per") == "core"
        self.most_tasks = 1000  # bsub -J: the default of MAX_JOB_ARRAY_SIZE

    def check(self) -> None:
        """Raises `UserError` for arguments that are orch's to give."""
        try:
            arguments(self._options.get("lsf-args", ""))
        except ValueError as error:
            raise UserError(f"lsf-args ($ORCH_LSF_ARGS): {error}") from error

    # Submission -----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> Command:
        """`bsub`, with a line of shell on stdin: there it is quoted as a shell has it, and nothing else looks at it."""
        if "%" in order.log:
            raise Refused(f"LSF replaces what follows a % in the name of an output file: {order.log}")
        array = f"[1-{order.size}]" if order.size > 1 else ""
        argv = ["bsub", "-J", f"{order.name}{array}", "-Jd", _label(order.label), "-rn"]
        argv += ["-o", order.log.replace("{index}", "%I" if array else "1"), "-n", str(order.cores)]
        argv += self._resources(order)
        chosen, requirements = self._chosen(order)
        for requirement in requirements:
            argv += ["-R", requirement]
        for flag, value in chosen.items():
            argv += [flag, value] if value else [flag]
        return Command(argv, stdin=f"#!/bin/sh\nexec {shlex.quote(order.script)}\n", env=QUIET)

    def _resources(self, order: Order) -> list[str]:
        """What it needs. `-M` is for the whole job; what is reserved is for a host, or for each core (bsub -M, -R)."""
        argv, reserved = [], []
        if order.memory:
            argv += ["-M", self._amount(order.memory)]
            reserved.append(f"mem={self._amount(math.ceil(order.memory / (order.cores if self._per_core else 1)))}")
        if order.disk:
            # the unit of `tmp` is that of the site only where LSF_ENABLE_TMP_UNIT says so, else MB
            reserved.append(f"tmp={_ceil(order.disk, 'MB')}" + ("" if self._options.get("lsf-memory-unit") else "MB"))
        if reserved:
            argv += ["-R", f"rusage[{':'.join(reserved)}]"]
        if order.cores > 1:
            argv += ["-R", "span[hosts=1]"]
        return argv

    def _amount(self, size: int) -> str:
        """Memory, with its unit; or, if it is known, in the unit that the site has (LSF_UNIT_FOR_LIMITS)."""
        unit = self._options.get("lsf-memory-unit", "")
        return str(_ceil(size, unit)) if unit else f"{_ceil(size, 'MB')}MB"

    def _chosen(self, order: Order) -> tuple[dict[str, str], list[str]]:
        """The other options, each once: of settings, arguments, `backend` and the job, the last that says it counts."""
        named = {"-q": "lsf-queue", "-P": "lsf-project", "-G": "lsf-group"}
        pairs = [("-env", "none")]  # the environment is in a file of the run, where LSF does not log it
        pairs += [(flag, self._options[name]) for flag, name in named.items() if self._options.get(name)]
        pairs += arguments(self._options.get("lsf-args", ""))
        pairs += [(f"-{key}", "" if key == "x" else value) for key, value in self._backend(order)]
        pairs += [("-W", str(max(1, math.ceil(order.walltime / 60))))] if order.walltime else []
        pairs += [("-q", order.queue)] if order.queue else []
        pairs += [("-gpu", _gpus(order))] if order.accelerators else []
        return dict(pair for pair in pairs if pair[0] != "-R"), [value for flag, value in pairs if flag == "-R"]

    def _backend(self, order: Order) -> list[tuple[str, str]]:
        """What a job passes through, as far as it is known."""
        known = self.backend_keys or ()
        strange = sorted({key for key, _ in order.backend if key not in known})
        if strange and self._options.get("batch-strict") == "true":
            raise Refused(f"backend: lsf has no {', '.join(strange)}; it has {', '.join(sorted(known))}")
        return [(key, value) for key, value in order.backend if key in known]

    def submitted(self, order: Order, answer: Answer) -> str:
        """The number in "Job <123> is submitted to queue <normal>."."""
        if match := re.search(r"Job <(\d+)> is submitted", answer.out + answer.err):
            return match[1]
        if "not submitted" in answer.out + answer.err:
            if NOT_ASKED.search(answer.said) or FULL.search(answer.said):
                raise NotTaken(answer.said)
            raise Trouble(answer.said) if lsf_answers.PASSING.search(answer.said) else Refused(answer.said)
        raise Trouble(answer.said)

    def task(self, job: str, index: int, size: int) -> str:
        """`123`, or `123[4]` in an array."""
        return f"{job}[{index}]" if size > 1 else job

    # Looking --------------------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[str]) -> Sequence[Command]:
        """`bjobs -a` of these: those that have ended within CLEAN_PERIOD, an hour mostly, are there too."""
        return [self._bjobs(*jobs)]

    def _bjobs(self, *words: str) -> Command:
        if self._json:
            return Command(["bjobs", "-a", "-json", "-o", " ".join(lsf_answers.FIELDS), *words], env=QUIET)
        fields = f"{' '.join(lsf_answers.FIELDS[:-1])} delimiter='^'"
        return Command(["bjobs", "-a", "-noheader", "-o", fields, *words], env=QUIET)

    def seen(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """What `bjobs` shows."""
        records = [record for answer in answers for record in self._records(answer)]
        return {lsf_answers.key(record): lsf_answers.seen(record) for record in records}

    def _records(self, answer: Answer) -> list[dict[str, str]]:
        """The jobs in an answer of `bjobs`, by field."""
        if "-json" in answer.command.argv:
            if lsf_answers.NO_SUCH_OPTION.search(answer.err):
                self._json = False
                raise Trouble(f"bjobs knows no -json here, and is asked for a table from now on: {answer.said}")
            return lsf_answers.from_json(answer)
        return lsf_answers.from_table(answer)

    def recall(self, tasks: Sequence[str], since: float) -> Sequence[Command]:
        """`bhist`, in all its files: what it has of these is all that is left of them."""
        return [Command(["bhist", "-l", "-n", "0", *tasks], env=QUIET)]

    def recalled(self, answers: Sequence[Answer]) -> dict[str, Seen]:
        """What has ended, of the stories that `bhist` tells."""
        found: dict[str, Seen] = {}
        for answer in answers:
            stories = dict(lsf_answers.stories(answer.out))
            if not stories and not lsf_answers.ABSENT.search(answer.out + answer.err):
                raise Trouble(answer.said)
            found |= {task: seen for task, story in stories.items() if (seen := lsf_answers.told(story)) is not None}
        return found

    def search(self, names: Sequence[str], since: float) -> Sequence[Command]:
        """`bjobs -J`, once: the names begin alike."""
        alike = os.path.commonprefix(list(names))  # noqa: RUF071 of strings, not of paths
        return [self._bjobs("-J", f"{alike}*")]

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> dict[str, str]:
        """Their numbers. An array's name stands in its tasks' as "name[3]"."""
        jobs: dict[str, str] = {}
        for answer in answers:
            for record in self._records(answer):
                name = record.get("job_name", "").partition("[")[0]
                if name in names:
                    jobs[name] = record["jobid"].partition("[")[0]
        return jobs

    # Ending ---------------------------------------------------------------------------------------------------

    def cancel(self, tasks: Sequence[str]) -> Sequence[Command]:
        """`bkill`: SIGINT, SIGTERM and SIGKILL, JOB_TERMINATE_INTERVAL apart, ten seconds mostly."""
        return [Command(["bkill", *tasks], env=QUIET)]

    def cancelled(self, answer: Answer) -> None:
        """Each task has a line: it is being terminated, has finished already, or is not there."""
        for line in (answer.out + "\n" + answer.err).splitlines():
            if line.strip() and not lsf_answers.ABSENT.search(line) and "being terminated" not in line:
                raise Trouble(line.strip())

    # What there is --------------------------------------------------------------------------------------------

    def survey(self) -> Sequence[Command]:
        """The hosts' slots, their memory, and how the site counts."""
        return [Command(argv, env=QUIET) for argv in (["bhosts", "-w"], ["lshosts", "-w"], ["bparams", "-a"])]

    def room(self, answers: Sequence[Answer]) -> Room:
        """What servers have that are not closed for good (bhosts, lshosts: "Output")."""
        slots, memory = {}, []
        for answer in answers:
            if answer.command.argv[0] == "bparams":
                self._learn(answer.out)
            for row in _rows(answer.out):
                if "MAX" in row and row["STATUS"] not in ("unavail", "closed_Adm"):
                    slots[row["HOST_NAME"]] = int(row["MAX"]) if row["MAX"].isdecimal() else 0
                if row.get("server") == "Yes" and (match := re.fullmatch(r"([\d.]+)([KMGT])", row["maxmem"])):
                    memory.append(int(float(match[1]) * UNITS[f"{match[2]}B"]))
        if not slots:
            raise Trouble(answers[0].said if answers else "no answer")
        if 0 in slots.values():  # a host without a limit
            return Room(node_memory=max(memory, default=0))
        return Room(sum(slots.values()), max(slots.values()), max(memory, default=0))

    def _learn(self, parameters: str) -> None:
        """What memory is reserved for, and how large arrays may be (lsb.params reference)."""
        if match := re.search(r"MAX_JOB_ARRAY_SIZE\s*=\s*(\d+)", parameters):
            self.most_tasks = max(1, min(1000, int(match[1])))
        if "lsf-memory-per" not in self._options:
            per_task = r"RESOURCE_RESERVE_PER_(TASK|SLOT)\s*=\s*Y"
            self._per_core = re.search(per_task, parameters, re.IGNORECASE) is not None


def arguments(text: str) -> list[tuple[str, str]]:
    """Options of `bsub`, each with its value. Raises `ValueError` for those that are orch's to give."""
    pairs: list[tuple[str, str]] = []
    for word in shlex.split(text):
        if match := re.fullmatch(r"(-R|-[nMW](?=\d))(.+)", word):  # the value may stand at once
            pairs.append((match[1], match[2]))
        elif word.startswith("-"):
            pairs.append((word, ""))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {word}".strip())
        else:
            raise ValueError(f"{word!r} is no option of bsub")
    for flag, value in pairs:
        if flag in OWN or flag.startswith("-I") or (flag == "-R" and re.search(r"\bmem\b", value)):
            raise ValueError(
                f"{flag} {value}: what a job needs, what it is called and where its output goes is orch's to say; "
                f"give jobs cores= and memory="
            )
    return pairs


def adapter() -> Adapter:
    """For the registry."""
    from orch.adapters.batch.adapter import BatchAdapter  # what only runs on batch systems need

    return BatchAdapter("lsf", LsfDialect)


def _label(label: str) -> str:
    """A description: one line."""
    return " ".join(label.split())[:200] or "orch"


def _ceil(size: int, unit: str) -> int:
    return math.ceil(size / UNITS[unit])


def _gpus(order: Order) -> str:
    """For `bsub -gpu`: so many of a host, and their model. Raises `Refused` for other devices."""
    if len(order.accelerators) > 1 or order.accelerators[0].kind != "gpu":
        kinds = ", ".join(each.kind for each in order.accelerators)
        raise Refused(f'LSF is asked for GPUs of one model only, not for {kinds}: say it with backend={{"R": "…"}}')
    wanted = order.accelerators[0]
    return f"num={wanted.count}" + (f":gmodel={wanted.model}" if wanted.model else "")


def _rows(text: str) -> Iterator[dict[str, str]]:
    """A table with a line of headings, by heading."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if lines and lines[0][0] == "HOST_NAME":
        yield from (dict(zip(lines[0], line, strict=False)) for line in lines[1:])
