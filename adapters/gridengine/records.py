"""What `qacct -j` says: how tasks have ended. Pure.

Source: accounting(5), sge_status(5) (the values of `failed`), sge_shepherd(8) (exit codes 99 and 100).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orch.adapters.batch.dialect import End, Seen, Stage
from orch.attempt import Reason

NOT_OVER = frozenset({24, 25})
"""Of `failed`: it goes on elsewhere, or waits again; the record is about what was before."""

_LOST = frozenset({1, 18, 19, 20, 21})
"""The host, or what watches over the job there, has failed."""

_LIMIT, _SIGNAL, _APPLICATION = 37, frozenset({17, 100}), 30

_AFTER = frozenset({12, 13, 14, 15, 16})
"""It ran, and what comes after it has failed."""

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SMALL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def blocks(text: str) -> Iterator[dict[str, str]]:
    """The records, as they come: the oldest first."""
    for block in re.split(r"^=+\s*$", text, flags=re.MULTILINE):
        pairs = [line.split(None, 1) for line in block.splitlines()]
        record = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
        if {"jobnumber", "failed", "exit_status"} <= record.keys():
            yield record


def task(record: Mapping[str, str]) -> str:
    """What it is about. Raises `ValueError` if that makes no sense."""
    job, number = int(record["jobnumber"]), record.get("taskid", "undefined")
    return f"{job}.{int(number)}" if number not in ("undefined", "0", "NONE") else str(job)


def seen(record: Mapping[str, str]) -> Seen | None:
    """How it has ended; None: it has not. Raises `ValueError` if that makes no sense."""
    failed = int(record["failed"].split()[0])
    code = int(record["exit_status"].split()[0])
    if failed in NOT_OVER:
        return None
    word = f"failed {' '.join(record['failed'].split())}, exit_status {code}"
    return Seen(Stage.OVER, word, host=record.get("hostname", ""), end=_end(failed, code, word, record))


def _end(failed: int, code: int, word: str, record: Mapping[str, str]) -> End:
    if failed in (0, _APPLICATION):
        reason = Reason.FAILED if code else Reason.FINISHED
        return End(reason, code, message=f"Grid Engine: exit_status {code}")
    if failed == _LIMIT:
        return _limited(word, record)
    if failed in _SIGNAL and code > 128:
        return _killed(code - 128, word, record)
    if failed in _LOST or failed in _SIGNAL:
        return End(Reason.LOST, message=f"Grid Engine: {word}: its host, or what watches over it there, has failed")
    if failed in _AFTER:
        return End(Reason.ERROR, message=f"Grid Engine: {word}: it ran, and then the site's own programs have failed")
    return End(Reason.ERROR, message=f"Grid Engine: {word}: it could not be started")


def _killed(signal: int, word: str, record: Mapping[str, str]) -> End:
    """By whom, Grid Engine does not say: qdel, a limit of the queue, the kernel and kill(1) look alike."""
    if _too_large(record):
        return End(Reason.MEMLIMIT, signal=signal, message=_memory(record))
    text = f"Grid Engine: {word}: killed by signal {signal}: qdel, a limit of the queue, or kill"
    return End(Reason.FAILED, signal=signal, message=text)


def _limited(word: str, record: Mapping[str, str]) -> End:
    """One of three limits (sge_status(5)); which one can be told where the record has what was asked for."""
    if _too_large(record):
        return End(Reason.MEMLIMIT, message=_memory(record))
    return End(Reason.MAXJOBDURATION, message=f"Grid Engine: {word}")


def _too_large(record: Mapping[str, str]) -> bool:
    limit = _asked(record).get("h_vmem", "")
    if not limit:
        return False
    slots = int(record.get("slots", "1") or 1)
    return size(record.get("maxvmem", "")) > size(limit) * slots


def _memory(record: Mapping[str, str]) -> str:
    asked, slots = _asked(record)["h_vmem"], int(record.get("slots", "1") or 1)
    times = f" for each of {slots} slots" if slots > 1 else ""
    return f"Grid Engine: it had {record['maxvmem']} of virtual memory, more than h_vmem={asked}{times}"


def _asked(record: Mapping[str, str]) -> dict[str, str]:
    """What follows "-l" in the category."""
    match = re.search(r"(?:^|\s)-l (\S+)", record.get("category", ""))
    pairs = [each.partition("=") for each in match.group(1).split(",")] if match else []
    return {name: value for name, _, value in pairs}


def size(text: str) -> float:
    """Bytes that are written "260.523MB", "150M" or "1500k"; 0: it cannot be read.

    Small letters are powers of 1000 (sge_types(5)).
    """
    match = re.match(r"([\d.]+)\s*([kmgtKMGTB]?)", text)
    if match is None:
        return 0.0
    number, unit = match.groups()
    return float(number) * (_SMALL.get(unit) or _UNITS[unit])
