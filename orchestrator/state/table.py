"""The rows of a run: those to which something happens as they are, the others packed, since there may be millions.

A dictionary to those who read and change it. Rows that have been let alone for longest are packed when there are too
many; one that is asked for again is unpacked for good, and is then as good as new. A row to which anybody still has a
reference is not packed: Python counts them. So a row that somebody has asked for by number is the row of its job for as
long as he holds it. Rows that are gone through to be looked at may be copies.
"""

from __future__ import annotations

import itertools
import zlib
from array import array
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from orch.bus.events import JobId

if TYPE_CHECKING:
    from orch.state.model import Job

HOT = 32 * 1024
"""Rows that stay as they are, at least; up to twice as many before the rest is packed. Some 25 MB."""

PAGE = 64
"""Rows that are packed, and unpacked, together: more would take less room, and more time when one is asked for."""

_T = TypeVar("_T")


class Page:
    """Some rows, packed. `jobs` are their numbers."""

    __slots__ = ("data", "jobs")

    def __init__(self, jobs: array[int], data: bytes) -> None:
        self.jobs = jobs
        self.data = data


def pack(rows: list[Job], *, small: bool = True) -> Page:
    """A page of these rows. Not `small`: made in a quarter of the time, and takes four times the room."""
    return Page(array("q", [row.id for row in rows]), zlib.compress(_encode(rows), 1 if small else 0))


_encode = msgspec.msgpack.Encoder().encode


_get: Any = dict.__getitem__

ALONE = next(getrefcount(_get(table, job)) for table, job in [({0: object()}, 0)])
"""How many references there are to a row that only the table has, as seen there."""


class Table(dict[JobId, "Job"]):
    """Rows by their number, in order of the numbers. What the dictionary itself holds are the rows that are hot."""

    def __init__(self, kind: type[Job], hot: int | None = None) -> None:
        super().__init__()
        self.hot = HOT if hot is None else hot
        self._places = array("l")  # of a job: the number of its page; 0: it is hot, or there is none
        self._pages: dict[int, Page] = {}
        self._last_page = 0
        self._cold = 0
        self._lasting = 0  # how many may be hot before it is worth a look again
        self._in_order = True  # the dictionary has its rows in order of their numbers
        self._seen: tuple[Page | None, dict[JobId, Job]] = None, {}  # the page that was looked at last
        rows: Any = list[kind]  # type: ignore[valid-type]  # it is known at run time only
        self._decode = msgspec.msgpack.Decoder(rows).decode

    # To those who use it, a dictionary -----------------------------------------------------------------------------

    def __missing__(self, job: JobId) -> Job:
        page = self._page(job)
        if page is None:
            raise KeyError(job)
        self._unpack(page)  # the whole of it: mostly, its neighbours come next
        return self[job]

    def __contains__(self, job: object) -> bool:
        return super().__contains__(job) or self._page(job) is not None

    def __len__(self) -> int:
        return super().__len__() + self._cold

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[JobId]:
        if self._in_order:
            return super().__iter__()
        cold = (job for job, place in enumerate(self._places) if place)
        return iter(sorted(itertools.chain(super().__iter__(), cold)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and dict(self.items()) == dict(other.items())

    __hash__ = None

    @overload
    def get(self, job: JobId, default: None = None, /) -> Job | None: ...
    @overload
    def get(self, job: JobId, default: Job | _T, /) -> Job | _T: ...
    def get(self, job: JobId, default: object = None, /) -> object:
        """The row; `default` where there is none."""
        try:
            return self[job]
        except KeyError:
            return default

    def keys(self) -> list[JobId]:  # type: ignore[override]  # nobody needs more of a view
        """All numbers, in order."""
        return list(self)

    def values(self) -> Iterator[Job]:  # type: ignore[override]  # it must not unpack all of them at once
        """All rows, in order of their numbers, to be looked at: a row that is packed comes as a copy."""
        for job in self:
            yield self.look(job)

    def items(self) -> Iterator[tuple[JobId, Job]]:  # type: ignore[override]  # as above
        """As `values`, with the numbers."""
        for job in self:
            yield job, self.look(job)

    def look(self, job: JobId) -> Job:
        """A row to be looked at, and not to be changed. Raises KeyError."""
        page = self._page(job)
        if page is None:
            return self[job]
        if self._seen[0] is not page:
            self._seen = page, {row.id: row for row in self._rows(page)}
        return self._seen[1][job]

    def drop(self, job: JobId) -> None:
        """Take a row out for good. (`del` would have to be written in Python, and make `[] =` slow.)"""
        page = self._page(job)
        if page is not None:
            self._unpack(page)
        super().__delitem__(job)

    def where(self, wanted: Callable[[Job], bool]) -> Iterator[Job]:
        """The rows that are wanted, to be changed."""
        for row in self.values():
            if wanted(row):
                yield self[row.id]

    # Packing -------------------------------------------------------------------------------------------------------

    @property
    def packed(self) -> int:
        """How many rows are."""
        return self._cold

    @property
    def too_many(self) -> bool:
        """Is it time to `cool`?"""
        return super().__len__() > max(2 * self.hot, self._lasting)

    def cool(self) -> None:
        """Pack the rows that have been let alone for longest, and that nobody holds, if there are too many."""
        if not self.too_many:
            return
        old = itertools.islice(super().__iter__(), super().__len__() - self.hot)
        chosen = [job for job in old if getrefcount(_get(self, job)) == ALONE]
        for start in range(0, len(chosen), PAGE):
            self.put(pack([self.pop(job) for job in chosen[start : start + PAGE]]))
        self._lasting = 2 * super().__len__()  # where very many are held, they are not gone through at every turn

    def pages(self) -> list[Page]:
        """All rows that are packed."""
        return list(self._pages.values())

    def hot_rows(self) -> list[Job]:
        """All rows that are not."""
        return list(super().values())

    def put(self, page: Page) -> None:
        """Take in rows that are packed. Raises ValueError if one of them is here, or has no number."""
        places = self._places
        places.frombytes(bytes(places.itemsize * max(0, max(page.jobs, default=0) + 1 - len(places))))
        self._last_page += 1
        for job in page.jobs:
            if job < 0 or places[job] or super().__contains__(job):
                raise ValueError(f"there cannot be another row of job {job}")
            places[job] = self._last_page
        self._pages[self._last_page] = page
        self._cold += len(page.jobs)
        self._in_order = False

    def _unpack(self, page: Page) -> None:
        del self._pages[self._places[page.jobs[0]]]
        for row in self._rows(page):
            self._places[row.id] = 0
            self[row.id] = row
        self._cold -= len(page.jobs)
        self._in_order = False

    def _page(self, job: object) -> Page | None:
        return self._pages.get(self._places[job]) if isinstance(job, int) and 0 <= job < len(self._places) else None

    def _rows(self, page: Page) -> list[Job]:
        rows: list[Job] = self._decode(zlib.decompress(page.data))
        return rows
