"""The database of the index: opened, made where it is missing, replaced by a new one where it is damaged.

A damaged database is never deleted under its name and made again: whoever has the old one open would, in closing it,
delete the write-ahead log of the new one (sqlite.org/howtocorrupt.html). So there are generations, `STEM.1.sqlite`,
`STEM.2.sqlite` …, of which the latest counts.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import anyio

from orch.store.private import open_private

BUSY = 20.0
"""Seconds to wait for another process that writes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, identity TEXT NOT NULL, state TEXT NOT NULL,
    deleted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (run TEXT NOT NULL, job INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
    time TEXT NOT NULL, entry BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (run, job));
CREATE TABLE IF NOT EXISTS uses (path TEXT NOT NULL, run TEXT NOT NULL, job INTEGER NOT NULL,
    PRIMARY KEY (path, run, job)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_digest ON calls (digest);
CREATE INDEX IF NOT EXISTS calls_kind ON calls (kind, time);
CREATE INDEX IF NOT EXISTS uses_job ON uses (run, job);
"""
_TABLES = {"runs", "calls", "uses"}


class Damaged(Exception):
    """What stands in the database is not what was written."""


def is_damage(error: Exception) -> bool:
    """Will a new database help? Not where the disk is full, or another process holds the lock."""
    code = getattr(error, "sqlite_errorcode", None)
    plain = None if code is None else code & 0xFF  # the low byte is the primary code (sqlite.org/rescode.html)
    return isinstance(error, Damaged) or plain in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # a table that is not there …
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,
    }


async def open_database(stem: Path, generation: int | None = None) -> aiosqlite.Connection:
    """The latest generation, or the one that is asked for; made if it is not there. Raises `sqlite3.Error`, OSError."""
    number = latest(stem) if generation is None else generation
    path = _path(stem, number)
    os.close(open_private(str(path), os.O_RDWR | os.O_CREAT))
    connection = await aiosqlite.connect(path, isolation_level=None, timeout=BUSY)
    try:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = NORMAL")  # the last calls may be lost: the logs have them
        async with transaction(connection):
            for statement in filter(str.strip, _SCHEMA.split(";")):
                await connection.execute(statement)
    except BaseException:  # cancelled, too: its thread would never end
        await close_database(connection)
        raise
    _forget_older(stem, number)
    return connection


async def close_database(connection: aiosqlite.Connection) -> None:
    """Close, whatever happens."""
    with anyio.CancelScope(shield=True), contextlib.suppress(sqlite3.Error):
        await connection.close()


@contextlib.asynccontextmanager
async def transaction(connection: aiosqlite.Connection) -> AsyncIterator[None]:
    """All of the block or nothing of it. It is not cancelled midway: it takes `BUSY` seconds at most, and little else.

    Raises `sqlite3.Error`.
    """
    with anyio.CancelScope(shield=True):
        await connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            await connection.execute("COMMIT")
        except BaseException:  # whatever it was, the next transaction must be able to begin
            with contextlib.suppress(sqlite3.Error):
                await connection.execute("ROLLBACK")
            raise


def latest(stem: Path) -> int:
    """Number of the latest generation; 1 if there is none."""
    return max(_generations(stem), default=1)


def _generations(stem: Path) -> list[int]:
    numbers = (path.name.removeprefix(f"{stem.name}.").removesuffix(".sqlite") for path in stem.parent.iterdir())
    return [int(number) for number in numbers if number.isascii() and number.isdigit()]


def _path(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}.{number}.sqlite")


def _forget_older(stem: Path, number: int) -> None:
    for old in (found for found in _generations(stem) if found < number):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{_path(stem, old)}{suffix}").unlink(missing_ok=True)
