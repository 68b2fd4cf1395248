"""Surveys, services and deferred functions, where a real agent runs them."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import jobs
from support.agents import Lab, View
from support.serving import Echo

from orch.attempt import Attempt, Note, Reason
from orch.bus.events import Blob, Resources
from orch.store.blobs import blob_bytes
from orch.work.services import serve

ASKED = Resources(cores=64, memory=10**15)
HOUR = 3600.0


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


def surveyed(**wanted: Any) -> dict[str, Any]:
    data = pickle.dumps(wanted)
    return {"survey": True, "asked": ASKED, "wanted": Blob(data=data, size=len(data)), "cache": True, "cores": 0.1}


@pytest.mark.parametrize("form", ["fork", "pool"])
async def test_a_survey_runs_no_body(view: View, tmp_path: Path, form: str) -> None:
    attempt = view.python(jobs.touch, str(tmp_path / "ran"), form=form, version="3", **surveyed(memory="1K"))
    outcome = await view.run_one(attempt)
    assert (outcome.reason, outcome.value.size) == (Reason.FINISHED, 0)
    assert outcome.resources == Resources(cores=64, memory=1024)
    assert outcome.call is not None
    assert outcome.call.parts.keys() == {"function", "path"}
    assert not (tmp_path / "ran").exists()


async def test_the_survey_of_a_program_runs_no_program(view: View, tmp_path: Path) -> None:
    outcome = await view.run_one(view.command("touch", str(tmp_path / "ran"), **surveyed()))
    assert (outcome.reason, outcome.value.size) == (Reason.FINISHED, 0), outcome.message
    assert outcome.call is not None
    assert "argv" in outcome.call.parts
    assert not (tmp_path / "ran").exists()


async def begun(view: View, attempt: Attempt) -> Any:
    """The credentials of a service, once it is up."""
    await view.submit(attempt)
    note = await view.until(lambda update: isinstance(update, Note) and update.key == attempt.key)
    assert isinstance(note, Note)
    assert note.kind == "up"
    return pickle.loads(blob_bytes(view.lab.store, note.blob))


def service(view: View, said: Path, *, fails: bool = False, interval: float = HOUR) -> Attempt:
    return view.python(serve, Echo(str(said), fails), form="service", kwargs={"interval": interval}, serves=0)


async def test_a_service_stops_when_it_is_told_to(view: View, tmp_path: Path) -> None:
    attempt = service(view, tmp_path / "said")
    assert (await begun(view, attempt))["port"] > 0
    await view.session.stop_services([attempt.key])
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert (tmp_path / "said").read_text() == "start\nstop\ndeferred\n"


async def test_a_service_stops_on_sigterm(view: View, tmp_path: Path) -> None:
    attempt = service(view, tmp_path / "said")
    os.kill((await begun(view, attempt))["pid"], signal.SIGTERM)
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert (tmp_path / "said").read_text() == "start\nstop\ndeferred\n"


async def test_a_service_that_fails_stops_first(view: View, tmp_path: Path) -> None:
    attempt = service(view, tmp_path / "said", fails=True, interval=0.01)
    await begun(view, attempt)
    outcome = await view.outcome(attempt)
    assert (outcome.reason, outcome.message) == (Reason.FAILED, "ConnectionError: nobody calls")
    assert (tmp_path / "said").read_text() == "start\nstop\ndeferred\n"


async def test_a_service_that_is_killed_has_done_what_it_deferred(view: View, tmp_path: Path) -> None:
    attempt = service(view, tmp_path / "said")
    os.kill((await begun(view, attempt))["pid"], signal.SIGKILL)
    assert (await view.outcome(attempt)).reason is not Reason.FINISHED
    assert (tmp_path / "said").read_text() == "start\ndeferred\n"


async def test_one_that_is_cancelled_may_stop_by_itself(view: View, tmp_path: Path) -> None:
    attempt = service(view, tmp_path / "said")
    await begun(view, attempt)
    await view.session.cancel([attempt.key])
    assert (await view.outcome(attempt)).reason is Reason.KILLED
    assert (tmp_path / "said").read_text() == "start\nstop\ndeferred\n"
