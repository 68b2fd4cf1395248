"""What attempts have used is measured, whoever of their processes used it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import Lab, Signal, View

from orch.attempt import Reason

FORMS = ["command", "fork", "pool"]
SOME = 0.3
BURN = "import time\nwhile time.process_time() < 0.3: pass"
MIB = 1 << 20


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


@pytest.mark.parametrize("form", FORMS)
async def test_cpu_time_counts(view: View, form: str) -> None:
    attempt = view.command("python3", "-c", BURN) if form == "command" else view.python(jobs.burn, SOME, form=form)
    used = (await view.run_one(attempt)).usage
    assert SOME / 2 < used.user + used.system < 20 * SOME
    assert used.wall > 0


@pytest.mark.parametrize("form", FORMS)
async def test_that_of_children_counts_as_well(view: View, form: str) -> None:
    if form == "command":
        attempt = view.shell(f"python3 -c '{BURN}'; :")
    else:
        attempt = view.python(jobs.burn_in_child, SOME, form=form)
    used = (await view.run_one(attempt)).usage
    assert used.user + used.system > SOME / 2


@pytest.mark.parametrize("form", FORMS)
async def test_that_of_orphans_counts_as_far_as_they_are_seen(view: View, form: str, tmp_path: Path) -> None:
    """They end while the attempt runs, and nobody but the agent waits for them."""
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    attempt = view.python(jobs.leave_an_orphan, SOME, said.path, held.path, form=form)
    if form == "command":
        script = f"(setsid sh -c \"python3 -c '{BURN}'; echo . > {said.path}\" &); read x < {held.path}"
        attempt = view.shell(script)
    await view.submit(attempt)
    await said.wait()
    Path(held.path).write_bytes(b"go\n")
    used = (await view.outcome(attempt)).usage
    assert used.user + used.system > SOME / 2
    said.close()
    held.close()


@pytest.mark.parametrize("form", FORMS)
async def test_a_peak_that_is_short_is_seen(view: View, form: str) -> None:
    """Shorter than what comes between two looks."""
    size = 200 * MIB
    if form == "command":
        attempt = view.command("python3", "-c", f"x = bytearray({size}); del x")
    else:
        attempt = view.python(jobs.have_for_a_moment, size, form=form)
    used = (await view.run_one(attempt)).usage
    assert size * 0.9 < used.memory < size * 1.5


@pytest.mark.parametrize("form", FORMS)
async def test_little_memory_is_little(view: View, form: str) -> None:
    attempt = view.shell("true") if form == "command" else view.python(jobs.add, 1, 2, form=form)
    assert (await view.run_one(attempt)).usage.memory < 30 * MIB


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ends", ["well", "killed"])
async def test_what_is_in_the_scratch_directory_counts(view: View, form: str, ends: str) -> None:
    size = 3 * MIB
    if form == "command":
        attempt = view.shell(f"mkdir a; head -c {size} /dev/zero > a/b; {'kill -9 $$' if ends == 'killed' else ':'}")
    else:
        attempt = view.python(jobs.fill_scratch, size, ends == "killed", form=form)
    outcome = await view.run_one(attempt)
    assert outcome.reason is (Reason.FAILED if ends == "killed" else Reason.FINISHED)
    assert size <= outcome.usage.disk < 2 * size
