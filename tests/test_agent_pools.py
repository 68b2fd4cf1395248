"""Scratch directories of attempts in warm workers, which share one as long as nobody else can be in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import jobs
from support.agents import Lab, View

from orch.attempt import Reason


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    lab = Lab(tmp_path)
    yield await lab.open()
    await lab.close()


async def scratch_of(view: View, function: Any, **changes: Any) -> str:
    """Where an attempt littered; it found nothing there, and cost what it left."""
    outcome = await view.run_one(view.python(function, form="pool", cores=os.cpu_count(), **changes))
    where, found = view.value(outcome)
    assert found == []
    assert outcome.usage.disk >= 100_000
    return str(where)


async def test_one_directory_serves_all_and_is_empty_each_time(view: View) -> None:
    places = [await scratch_of(view, jobs.litter) for _ in range(3)]
    assert len(set(places)) == 1
    assert os.listdir(places[0]) == []


async def test_after_a_process_was_started_each_has_its_own(view: View) -> None:
    first = await scratch_of(view, jobs.litter)
    assert await scratch_of(view, jobs.start_one) == first
    places = [await scratch_of(view, jobs.litter) for _ in range(2)]
    assert len({first, *places}) == 3
    assert not any(map(os.path.exists, places))


async def test_what_may_be_kept_is_its_own(view: View) -> None:
    first = await scratch_of(view, jobs.litter)
    kept = await scratch_of(view, jobs.litter, clean_scratch="never")
    assert kept != first
    assert await scratch_of(view, jobs.litter) == first


async def test_what_a_crash_leaves_is_counted_and_removed(view: View) -> None:
    first = await scratch_of(view, jobs.litter)
    outcome = await view.run_one(view.python(jobs.litter, form="pool", cores=os.cpu_count(), kwargs={"crash": True}))
    assert outcome.reason is Reason.FAILED
    assert outcome.usage.disk >= 100_000
    assert await scratch_of(view, jobs.litter) != first
