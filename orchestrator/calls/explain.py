"""Why a job's value was taken from an earlier call, or was not."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from collections.abc import Iterator, Mapping

import anyio

from orch.bus import events as ev
from orch.bus.identity import utc_now
from orch.bus.reader import read
from orch.calls.index import Index
from orch.calls.present import missing
from orch.calls.record import UNSTORED, Entry
from orch.errors import OrchError, StoreError
from orch.sizes import format_duration
from orch.store.file import FileStore
from orch.store.layout import log_dir

_MOST = 1000
"""Earlier calls that are looked at, in search of the nearest."""
_REFUSED = "cannot be cached: "
"""Stands in the warning of a survey that found no call."""


class _Facts:
    """What the log of a run says of one job."""

    def __init__(self, store: FileStore, run: str, job: ev.JobId) -> None:
        self.run, self.job = run, job
        self.setting = "marked"
        self.added: ev.Added | None = None
        self.survey: ev.Surveyed | None = None
        self.reused: ev.Reused | None = None
        self.refused = ""
        self.unstored = ""
        for event in read(store.local_path(log_dir(run))):
            if isinstance(event, ev.Created):
                self.setting = event.settings.get("cache", "marked")
            elif isinstance(event, ev.Warned) and event.message == UNSTORED:  # said once, of any job
                self.unstored = UNSTORED[UNSTORED.index(_REFUSED) :]
            elif getattr(event, "job", None) == job:
                self._note(event)

    def _note(self, event: ev.Event) -> None:
        match event:
            case ev.Added():
                self.added = event
            case ev.Surveyed():
                self.survey = event
            case ev.Reused():
                self.reused = event
            case ev.Warned() if _REFUSED in event.message:
                self.refused = event.message[event.message.index(_REFUSED) :]

    @property
    def asked_for(self) -> bool:
        """Was the job to be cached?"""
        return self.added is not None and (self.added.cache or self.setting == "all")


def explain_call(
    store: FileStore, run: str, job: ev.JobId, environment: Mapping[str, str] | None = None, now: str = ""
) -> list[str]:
    """Lines for people; none if the job has nothing to do with the call cache. `now`: UTC, as in events.

    Raises `LogDamaged`, `LogTrouble`.
    """
    facts = _Facts(store, run, job)
    if not facts.asked_for and facts.reused is None:
        return []
    if facts.setting == "off":
        return ["the call cache is not used by this run (--no-cache)"]
    if facts.survey is None:
        return []
    if facts.survey.call is None:
        return [facts.refused or facts.unstored or "cannot be cached"]
    try:
        return anyio.run(_compared, store, facts, os.environ if environment is None else environment, now or utc_now())
    except (sqlite3.Error, OSError, OrchError) as error:
        return [f"the call cache cannot be asked: {error}"]


async def _compared(store: FileStore, facts: _Facts, environment: Mapping[str, str], now: str) -> list[str]:
    assert facts.survey is not None
    assert facts.survey.call is not None
    assert facts.added is not None
    index = Index(store, environment)
    try:
        await index.open()
        equal = [one.entry for one in (await index.equal([facts.survey.call.digest]))[facts.survey.call.digest]]
        if facts.reused is not None:
            return [_taken(store, facts.reused, equal, now)]
        alike = [one.entry for one in await index.of_kind(facts.added.kind, facts.survey.time, _MOST)]
    finally:
        await index.close()
    own = (facts.run, facts.job)
    equal = [entry for entry in equal if (entry.run, entry.job) != own and entry.time < facts.survey.time]
    alike = [entry for entry in alike if (entry.run, entry.job) != own]
    return [_not_taken(store, facts.survey.call, equal, alike)]


def _taken(store: FileStore, reused: ev.Reused, equal: list[Entry], now: str) -> str:
    text = f"taken from run {reused.run} job {reused.source}"
    entry = next((entry for entry in equal if (entry.run, entry.job) == (reused.run, reused.source)), None)
    if entry is None:
        return f"{text}, which is not there any more"
    return f"{text} (computed {_ago(entry.time, now)}){_but_gone(store, entry)}"


def _not_taken(store: FileStore, call: ev.Call, equal: list[Entry], alike: list[Entry]) -> str:
    if equal:
        gone = _but_gone(store, equal[0]) or ", but could not be taken then"
        return f"ran, though there is an equal call ({_name(equal[0])}){gone}"
    if not alike:
        return "ran, because there is no earlier call of this kind"
    nearest = max(alike, key=lambda entry: (_in_common(call, entry.call), entry.time))
    why = _joined(list(_differences(call, nearest.call)))
    return f"ran, because {why} (compared with the nearest earlier call, {_name(nearest)})"


def _in_common(call: ev.Call, other: ev.Call) -> int:
    return (call.code == other.code) + sum(other.parts.get(name) == digest for name, digest in call.parts.items())


def _differences(call: ev.Call, other: ev.Call) -> Iterator[str]:
    if call.code != other.code:
        mine, theirs = (code.removeprefix("version:") for code in (call.code, other.code))
        named = mine != call.code and theirs != other.code
        yield f"the version is {mine!r} and was {theirs!r}" if named else "the code differs"
    for name in sorted({*call.parts, *other.parts}):
        what = "the function" if name == "function" else f"argument {name!r}"
        if name not in other.parts:
            yield f"{what} was not there"
        elif name not in call.parts:
            yield f"{what} is not there any more"
        elif call.parts[name] != other.parts[name]:
            yield f"{what} differs"


def _joined(parts: list[str]) -> str:
    if not parts:
        return "something that is not recorded differs"
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _but_gone(store: FileStore, entry: Entry) -> str:
    try:
        gone = missing(store, entry)
    except StoreError as error:
        return f", but {error}"
    return f", but {gone} is gone" if gone else ""


def _name(entry: Entry) -> str:
    return f"run {entry.run} job {entry.job}"


def _ago(time: str, now: str) -> str:
    try:
        seconds = (dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(time)).total_seconds()
    except ValueError:
        return time
    return f"{format_duration(max(0.0, seconds))} ago"
