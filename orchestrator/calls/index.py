"""The index of the calls that the runs of a store have made: a copy of what their logs say, to look things up in.

Several processes use it at once. Each brings it up to date when it opens it, and adds what its own run learns. What is
added twice is the same: so none of them waits for another one but to write.
"""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec
from anyio import to_thread

from orch.calls.database import Damaged, close_database, is_damage, latest, open_database, transaction
from orch.calls.place import index_stem
from orch.calls.record import Entry, place_of
from orch.calls.source import Stamp, entries, stamps
from orch.errors import LogDamaged, OrchError
from orch.store.file import FileStore

Result = TypeVar("Result")

_MANY = 400
"""Values in one question: SQLite takes 999 at least (sqlite.org/limits.html)."""
_BATCH = 500
"""Entries that are written together."""
_NEWEST_FIRST = "ORDER BY c.time DESC, c.run DESC, c.job DESC"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Found(msgspec.Struct, frozen=True):
    """An entry, and the identity of its run when it was read."""

    entry: Entry
    identity: str


class Index:
    """The index of one store. To be opened before, and closed after use.

    Raises `sqlite3.Error`, `OSError`, `StoreError`. A database that is damaged is replaced, once in each call.
    """

    def __init__(self, store: FileStore, environment: Mapping[str, str]) -> None:
        self._store = store
        self._stem: Callable[[], Path] = lambda: index_stem(store.root, environment)
        self._database: aiosqlite.Connection | None = None

    async def open(self) -> Index:
        """Open it and bring it up to date."""
        await self._mended(self.refresh)
        return self

    async def close(self) -> None:
        """Let go of it."""
        database, self._database = self._database, None
        if database is not None:
            await close_database(database)

    # Bringing it up to date ---------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read what the logs have that the index has not."""
        database = await self._opened()
        known = {
            run: Stamp(identity, state, bool(deleted))
            for run, identity, state, deleted in await _all(database, "SELECT * FROM runs")
        }
        found = await to_thread.run_sync(stamps, self._store)
        await self._forget(run for run in known if run not in found or _may_have_fewer(known[run], found[run]))
        for run, stamp in found.items():
            if known.get(run) != stamp:
                await self._read(run, stamp)

    async def _read(self, run: str, stamp: Stamp) -> None:
        """One run. A damaged log has no calls to offer: others say so. What cannot be read now is tried again."""
        batches = _batches(entries(self._store, run))
        try:
            while batch := await to_thread.run_sync(next, batches, None):
                await self._write(batch, {})
        except LogDamaged:
            pass
        except (OrchError, OSError):
            return
        await self._write([], {run: stamp})

    async def _forget(self, runs: Iterable[str]) -> None:
        gone = [(run,) for run in runs]
        if gone:
            async with transaction(await self._opened()):
                for table in ("calls", "uses", "runs"):
                    await self._many(f"DELETE FROM {table} WHERE run = ?", gone)  # noqa: S608 - of our own tables

    # Adding -------------------------------------------------------------------------------------------------------

    async def add(self, found: Sequence[Entry], identity: str) -> None:
        """Remember calls of one run. What the index knows of that run's log stays as it is."""
        run = found[0].run
        await self._mended(lambda: self._add(found, run, identity))

    async def _add(self, found: Sequence[Entry], run: str, identity: str) -> None:
        database = await self._opened()
        known = await _all(database, "SELECT identity FROM runs WHERE run = ?", [run])
        if known and known[0][0] != identity:
            await self._forget([run])
        await self._write(found, {} if known and known[0][0] == identity else {run: Stamp(identity, "")})

    async def _write(self, found: Sequence[Entry], runs: Mapping[str, Stamp]) -> None:
        """Entries never change, so what is there already is written over, or let be."""
        uses = [(path, entry.run, entry.job) for entry in found for path in entry.uses()]
        stamped = [(run, stamp.identity, stamp.state, stamp.deleted) for run, stamp in runs.items()]
        async with transaction(await self._opened()):
            await self._many("INSERT OR REPLACE INTO calls VALUES (?,?,?,?,?,?,?)", [*map(_row, found)])
            await self._many("INSERT OR IGNORE INTO uses VALUES (?,?,?)", uses)
            await self._many("INSERT OR REPLACE INTO runs VALUES (?,?,?,?)", stamped)

    async def drop(self, gone: Sequence[Entry]) -> None:
        """Forget entries that are good for nothing any more, until the index is made anew."""
        keys = [(entry.run, entry.job) for entry in gone]
        async with transaction(await self._opened()):
            await self._many("DELETE FROM calls WHERE run = ? AND job = ?", keys)
            await self._many("DELETE FROM uses WHERE run = ? AND job = ?", keys)

    # Looking up ---------------------------------------------------------------------------------------------------

    async def equal(self, digests: Sequence[str]) -> dict[str, list[Found]]:
        """Calls with these digests, the newest first."""
        found: dict[str, list[Found]] = {digest: [] for digest in digests}
        for some in _chunks([*found]):
            where = f"c.digest IN ({','.join('?' * len(some))})"
            for one in await self._mended(lambda where=where, some=some: self._select(where, some)):  # type: ignore[misc]  # called at once
                found[one.entry.call.digest].append(one)
        return found

    async def of_kind(self, kind: str, before: str, most: int) -> list[Found]:
        """Calls of a kind that were made before a time, the newest first; so many of them at most."""
        where = "c.kind = ? AND c.time < ?"
        return await self._mended(lambda: self._select(where, [kind, before], f"LIMIT {most}"))

    async def used(self, paths: Sequence[str]) -> set[str]:
        """Which of these stored files are in the value of some call."""
        places = {path: place_of(path) for path in paths}
        held: set[str] = set()
        for some in _chunks([*{*places.values(), *paths}]):
            question = f"SELECT DISTINCT path FROM uses WHERE path IN ({','.join('?' * len(some))})"  # noqa: S608 - marks
            rows = await self._mended(lambda question=question, some=some: self._question(question, some))  # type: ignore[misc]  # called at once
            held.update(row[0] for row in rows)
        return {path for path, place in places.items() if place in held or path in held}

    async def all(self) -> list[Found]:
        """Everything."""
        return await self._mended(lambda: self._select("1", []))

    async def _question(self, question: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        return await _all(await self._opened(), question, values)

    async def _select(self, where: str, values: Sequence[str], rest: str = "") -> list[Found]:
        question = (
            "SELECT c.entry, c.crc, r.identity FROM calls c JOIN runs r ON r.run = c.run "  # noqa: S608 - see callers
            f"WHERE {where} {_NEWEST_FIRST} {rest}"
        )
        rows = await _all(await self._opened(), question, values)
        return [Found(_entry(data, crc), identity) for data, crc, identity in rows]

    # The database -------------------------------------------------------------------------------------------------

    async def _opened(self, generation: int | None = None) -> aiosqlite.Connection:
        if self._database is None:
            self._database = await open_database(self._stem(), generation)
        return self._database

    async def _many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            await (await self._opened()).executemany(statement, rows)

    async def _mended(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """What the call gives; if the database turns out to be damaged, the logs are read into a new one first."""
        try:
            return await call()
        except (sqlite3.Error, Damaged) as error:
            if not is_damage(error):
                raise
        await self.close()
        await self._opened(latest(self._stem()) + 1)
        await self.refresh()
        return await call()


def _may_have_fewer(known: Stamp, now: Stamp) -> bool:
    """May calls that were there be gone? Of a log none is ever, unless it is another run's."""
    return known.identity != now.identity or (now.deleted and known != now)


def _row(entry: Entry) -> tuple[object, ...]:
    data = _encode(entry)
    return entry.run, entry.job, entry.call.digest, entry.kind, entry.time, data, zlib.crc32(data)


def _entry(data: Any, crc: Any) -> Entry:
    """SQLite has no checksums of its own, and what is in an entry becomes a job's value."""
    if not isinstance(data, bytes) or zlib.crc32(data) != crc:
        raise Damaged("the crc of an entry does not match")
    return _decode(data)


async def _all(database: aiosqlite.Connection, question: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await database.execute_fetchall(question, values)]


def _batches(found: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(itertools.islice(found, _BATCH)):
        yield batch


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _MANY] for start in range(0, len(values), _MANY))
