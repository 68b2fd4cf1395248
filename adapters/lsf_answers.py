"""What LSF answers: its states, why it ends jobs, the answers of `bjobs` and the stories of `bhist`.

Pages are of the IBM Spectrum LSF 10.1 documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from orch.adapters.batch.dialect import Answer, End, Reason, Seen, Stage, Trouble

STATES = {
    "PEND": (Stage.QUEUED, ""),
    "PROV": (Stage.QUEUED, "its host is being made ready"),
    "WAIT": (Stage.QUEUED, "it waits its turn in a chunk"),
    "PSUSP": (Stage.HELD, "it was suspended while it was pending: bresume lets it go on"),
    "RUN": (Stage.RUNNING, ""),
    "USUSP": (Stage.RUNNING, "it was suspended: bresume lets it go on"),
    "SSUSP": (Stage.RUNNING, "LSF has suspended it"),
    "UNKWN": (Stage.RUNNING, "LSF has lost contact with its host"),
    "ZOMBI": (Stage.ENDING, "it was killed, and its host does not answer"),
    "DONE": (Stage.OVER, ""),
    "EXIT": (Stage.OVER, ""),
}
"""What `bjobs` calls a job's state (LSF command reference, bjobs, "Output", STAT)."""

ENDS = {
    "TERM_MEMLIMIT": Reason.MEMLIMIT,
    "TERM_SWAP": Reason.MEMLIMIT,
    "TERM_RUNLIMIT": Reason.MAXJOBDURATION,
    "TERM_CPULIMIT": Reason.MAXJOBDURATION,
    "TERM_DEADLINE": Reason.MAXJOBDURATION,
    "TERM_PREEMPT": Reason.PREEMPTED,
    "TERM_LOAD": Reason.PREEMPTED,
    "TERM_WINDOW": Reason.PREEMPTED,
    "TERM_RC_RECLAIM": Reason.PREEMPTED,
    "TERM_REQUEUE_OWNER": Reason.LOST,
    "TERM_REQUEUE_ADMIN": Reason.LOST,
    "TERM_REMOVE_HUNG_JOB": Reason.LOST,
    "TERM_ZOMBIE": Reason.LOST,
    "TERM_MC_RECALL": Reason.LOST,
    "TERM_OTHER": Reason.LOST,
    "TERM_OWNER": Reason.KILLED,
    "TERM_FORCE_OWNER": Reason.KILLED,
    "TERM_ADMIN": Reason.KILLED,
    "TERM_FORCE_ADMIN": Reason.KILLED,
    "TERM_BUCKET_KILL": Reason.KILLED,
    "TERM_CHKPNT": Reason.KILLED,
    "TERM_ORPHAN_SYSTEM": Reason.KILLED,
    "TERM_CWD_NOTEXIST": Reason.ERROR,
    "TERM_PRE_EXEC_FAIL": Reason.ERROR,
    "TERM_DATA": Reason.ERROR,
    "TERM_CSM_ALLOC": Reason.ERROR,
    "TERM_KUBE": Reason.ERROR,
    "TERM_RMS": Reason.ERROR,
    "TERM_SLURM": Reason.ERROR,
}
"""What LSF says of why it ended a job (Administering LSF, "Termination reasons displayed by bacct, bhist, and bjobs").

Those that are not here (TERM_EXTERNAL_SIGNAL, TERM_PROCESSLIMIT, TERM_THREADLIMIT, TERM_UNKNOWN) say no more than the
exit code does.
"""

PASSING = re.compile(
    r"LSF library call|batch daemon|library internal error|daemon internal error|not responding|LIM |LSF is down"
    r"|cannot connect|please wait|try later|retrying|timed? ?out|refused by server|not connected|protocol error|XDR"
    r"|cannot fork|system call failed|allocate memory|service not registered|in progress|no job id can be used",
    re.IGNORECASE,
)
"""LSF does not answer, or not now: of the messages of lsb_perror(3) those that pass by themselves."""

EVENT = r"^\w+ +\w+ +\d+ [\d:]+(?: \d+)?: (?:\[\d+\] )?"
"""How a line of a story begins: "Mon May  6 22:58:03: "."""

ABSENT = re.compile(r"is not found|No (unfinished |matching )?job found|already finished", re.IGNORECASE)
NO_SUCH_OPTION = re.compile(r"illegal option|unknown option|invalid option|usage:", re.IGNORECASE)

FIELDS = ["jobid", "jobindex", "stat", "exit_code", "exec_host", "job_name", "exit_reason", "pend_reason"]
"""Of `bjobs -o`. The last one is younger than tables are."""


def from_json(answer: Answer) -> list[dict[str, str]]:
    """The records of `bjobs -json`, after lines that ask to wait. Those that are not found have the field ERROR."""
    text = answer.out[answer.out.find("{") :] if "{" in answer.out else ""
    if not text and ABSENT.search(answer.err + answer.out):
        return []
    try:
        records: list[dict[str, Any]] = json.loads(text, strict=False)["RECORDS"]
        lower = [{key.lower(): str(value) for key, value in record.items()} for record in records]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Trouble(answer.said) from error
    good = [record for record in lower if "error" not in record]
    if answer.code and not good and PASSING.search(answer.err):
        raise Trouble(answer.said)
    if not all("jobid" in record and "stat" in record for record in good):
        raise Trouble(answer.said)
    return good


def from_table(answer: Answer) -> list[dict[str, str]]:
    """The same, as a table."""
    lines = [line for line in answer.out.splitlines() if line.count("^") >= len(FIELDS) - 2]
    if not lines and not ABSENT.search(answer.err + answer.out):
        raise Trouble(answer.said)
    rows = [[word.strip() for word in line.split("^")] for line in lines]
    return [{name: "" if word == "-" else word for name, word in zip(FIELDS, row, strict=False)} for row in rows]


def key(record: dict[str, str]) -> str:
    """A task. Sites choose whether the number of a job has the index in it (lsf.conf: LSB_BJOBS_DISPLAY_ENH)."""
    job, _, index = record["jobid"].rstrip("]").partition("[")
    index = index or record.get("jobindex", "0")
    return f"{job}[{index}]" if index not in ("", "0") else job


def seen(record: dict[str, str]) -> Seen:
    """What it says of a job."""
    word = record["stat"]
    stage, why = STATES.get(word, (Stage.STRANGE, ""))
    waits = " ".join(record.get("pend_reason", "").split()) if stage in (Stage.QUEUED, Stage.HELD) else ""
    host = re.split(r"[:\s]", record.get("exec_host", "").rpartition("*")[2])[0]  # "4*host", "host:host"
    code = record.get("exit_code", "")
    end = _end(code, record.get("exit_reason", ""), done=word == "DONE") if stage is Stage.OVER else None
    return Seen(stage, word, waits or why, "" if host == "-" else host, end)


def _end(code: str, why: str, *, done: bool) -> End:
    """How it ended: by LSF's reason, if it has one, else by the exit code, where 128 and more are signals.

    Administering LSF, "How LSF translates events into exit codes".
    """
    if done:
        return End(Reason.FINISHED, 0, message="LSF: DONE")
    number = int(code) if code.isdecimal() else None
    signal = number - 128 if number is not None and 128 < number <= 192 else 0
    keyword = re.match(r"TERM_\w+", why)
    said = why.strip().rstrip(".") or (f"exit code {code}" if number is not None else "ended before it ran")
    reason = ENDS.get(keyword[0] if keyword else "", Reason.KILLED if number is None else Reason.FAILED)
    return End(reason, None if signal else number, signal, f"LSF: EXIT: {said}")


def stories(text: str) -> Iterator[tuple[str, str]]:
    """What `bhist -l` tells of each task. Long lines are cut, and go on in the next, after spaces."""
    for block in re.split(r"^-{20,}\s*$", text, flags=re.MULTILINE):
        story = re.sub(r"\n {21}", "", block)
        if match := re.search(r"^\s*Job <([\d\[\]]+)>", story):
            yield match[1], story


def told(story: str) -> Seen | None:
    """How a story ends, if it does (LSF command reference, bhist, "Output: Long format")."""
    last = story[max(story.rfind("ispatched "), story.rfind("Pending: Requeued"), 0) :]
    why = re.search(r"\b(TERM_\w+:[^;\n]*)", last)
    code = re.search(r"Exited with exit code (\d+)", last)
    host = re.search(r"ispatched [^<;]*<([^>*]+)", last)
    done = re.search(EVENT + "(Done successfully|Completed <done>)", last, re.MULTILINE) is not None
    if not done and re.search(EVENT + "(Exited|Completed <exit>)", last, re.MULTILINE) is None:
        return None
    end = _end(code[1] if code else "", why[1] if why else "", done=done)
    return Seen(Stage.OVER, "DONE" if done else "EXIT", host=host[1] if host else "", end=end)
