"""The end of attempts, on request or over a limit, with everything that descends from them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import Lab, Signal, View, process_gone

from orch.attempt import Attempt, Outcome, Reason

FORMS = ["fork", "pool"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


async def _cancelled(view: View, attempt: Attempt) -> Outcome:
    await view.session.cancel([attempt.key])
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.KILLED, outcome
    return outcome


def _of(lab: Lab, attempt: Attempt) -> list[int]:
    """Processes that bear the mark of an attempt."""
    from orch.agent import processes

    return [pid for pid in processes.marked(f"{lab.name}:{attempt.key}") if not processes.is_zombie(pid)]


async def test_a_cancelled_command_ends_with_a_grandchild_in_its_own_session(view: View, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    script = f"(setsid sh -c 'sleep 3600 & echo . > {said.path}; wait' &) ; sleep 3600"
    attempt = view.shell(script)
    await view.submit(attempt)
    await said.wait()
    assert len(_of(view.lab, attempt)) >= 3
    await _cancelled(view, attempt)
    assert not _of(view.lab, attempt)
    assert not view.lab.scratch()
    said.close()


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("form", FORMS)
async def test_a_cancelled_body_ends_with_a_grandchild_in_its_own_session(
    view: View, tmp_path: Path, form: str, executed: bool
) -> None:
    said = Signal(tmp_path / "said")
    attempt = view.python(jobs.scatter, said.path, form=form, kwargs={"executed": executed})
    await view.submit(attempt)
    started = await view.started(attempt)
    grandchild = int(await said.wait(len(str(started.pid))))
    await _cancelled(view, attempt)
    await process_gone(grandchild)
    assert not _of(view.lab, attempt)
    assert not view.lab.scratch()
    said.close()


@pytest.mark.parametrize("form", FORMS)
async def test_what_a_finished_body_leaves_running_is_ended(view: View, tmp_path: Path, form: str) -> None:
    """When the news of its end comes, nothing of it is left."""
    for executed in (True, False):
        said = tmp_path / f"said{executed}"
        attempt = view.python(jobs.spread, str(said), form=form, kwargs={"executed": executed})
        assert (await view.run_one(attempt)).reason is Reason.FINISHED
        assert not Path(f"/proc/{said.read_text()}").exists()
    attempt = view.python(jobs.start_program, form=form)
    assert (await view.run_one(attempt)).reason is Reason.FINISHED
    assert not _of(view.lab, attempt)


async def test_what_a_finished_command_leaves_running_is_ended(view: View) -> None:
    attempt = view.shell("setsid sleep 3600 > /dev/null & (sleep 3600 &); echo done")
    outcome = await view.run_one(attempt)
    assert outcome.stdout.data == b"done\n"
    assert not _of(view.lab, attempt)


async def test_a_process_without_its_mark_is_ended_too(view: View, tmp_path: Path) -> None:
    said = tmp_path / "said"
    attempt = view.shell(f"env -i /bin/sh -c 'sleep 3600 & echo $! > {said}' & wait")
    assert (await view.run_one(attempt)).reason is Reason.FINISHED
    await process_gone(int(said.read_text()))


async def test_what_a_live_attempt_has_in_the_background_is_left_alone(view: View, tmp_path: Path) -> None:
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    daemon = view.shell(
        f"(setsid sh -c 'read x < {held.path}; echo from afar' &); echo . > {said.path}; sleep 0.3; echo own"
    )
    await view.submit(daemon)
    await said.wait()
    for _ in range(5):
        await view.run_one(view.shell("true"))
    Path(held.path).write_bytes(b"go\n")
    outcome = await view.outcome(daemon)
    assert outcome.stdout.data == b"from afar\nown\n"
    said.close()
    held.close()


@pytest.mark.parametrize("form", FORMS)
async def test_cancelling_what_has_not_started(lab: Lab, form: str) -> None:
    view = await lab.open(cores=1)
    running = view.python(jobs.hang, form=form)
    waiting = [view.python(jobs.pid, form=form) for _ in range(5)]
    await view.submit(running, *waiting)
    await view.started(running)
    await view.session.cancel([each.key for each in waiting])
    for each in waiting:
        assert (await view.outcome(each)).reason is Reason.KILLED
    assert running.key not in view.outcomes
    await _cancelled(view, running)


async def test_cancelling_one_of_a_workers_attempts_leaves_the_others(lab: Lab) -> None:
    view = await lab.open(cores=1)
    warm = [view.python(jobs.pid, form="pool") for _ in range(60)]
    hanging = view.python(jobs.hang, form="pool")
    after = [view.python(jobs.pid, form="pool") for _ in range(10)]
    await view.submit(*warm, hanging, *after)
    await view.started(hanging)
    await _cancelled(view, hanging)
    for each in [*warm, *after]:
        assert (await view.outcome(each)).reason is Reason.FINISHED


@pytest.mark.parametrize("form", ["command", *FORMS])
async def test_a_wall_time_limit(view: View, form: str) -> None:
    if form == "command":
        attempt = view.shell("sleep 3600; true", walltime=0.2)
    else:
        attempt = view.python(jobs.hang, form=form, walltime=0.2)
    outcome = await view.run_one(attempt)
    assert outcome.reason is Reason.MAXJOBDURATION
    assert "0.2 s" in outcome.message
    assert outcome.usage.wall >= 0.2
    assert not _of(view.lab, attempt)


@pytest.mark.parametrize("form", ["command", "tree", *FORMS])
async def test_a_memory_limit(view: View, form: str) -> None:
    """For everything that descends from the attempt together."""
    limit, size = 100 << 20, 200 << 20
    eater = f"x = bytearray({size}); x[::4096] = b'1' * len(x[::4096]); import signal; signal.pause()"
    if form == "command":
        attempt = view.command("python3", "-c", eater, memory=limit)
    elif form == "tree":
        attempt = view.command("sh", "-c", 'setsid python3 -c "$0" & wait', eater, memory=limit)
    else:
        attempt = view.python(jobs.eat, size, form=form, memory=limit)
    outcome = await view.run_one(attempt)
    assert outcome.reason is Reason.MEMLIMIT, outcome
    assert "100 MiB" in outcome.message
    assert outcome.usage.memory > limit
    assert not _of(view.lab, attempt)


@pytest.mark.parametrize("form", FORMS)
async def test_within_a_memory_limit_the_templates_pages_do_not_count(view: View, form: str, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    attempt = view.python(jobs.eat, 20 << 20, said.path, form=form, memory=40 << 20)
    await view.submit(attempt)
    await said.wait()
    quick = view.shell("sleep 0.4")  # longer than the agent needs for a look
    assert (await view.run_one(quick)).reason is Reason.FINISHED
    outcome = await _cancelled(view, attempt)
    assert 20 << 20 <= outcome.usage.memory <= 40 << 20
    said.close()


async def test_a_worker_over_its_memory_limit_costs_only_the_one_that_ran(lab: Lab) -> None:
    view = await lab.open(cores=1)
    warm = [view.python(jobs.pid, form="pool", memory=100 << 20) for _ in range(30)]
    eater = view.python(jobs.eat, 200 << 20, form="pool", memory=100 << 20)
    after = [view.python(jobs.pid, form="pool", memory=100 << 20) for _ in range(10)]
    await view.submit(*warm, eater, *after)
    assert (await view.outcome(eater)).reason is Reason.MEMLIMIT
    for each in [*warm, *after]:
        assert (await view.outcome(each)).reason is Reason.FINISHED


async def test_cancelling_during_an_import(view: View, lab: Lab, tmp_path: Path) -> None:
    from orch.bundle import Source, freeze

    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    workflow = lab.root / "slow.py"
    workflow.write_text(
        f"import orch\nopen({said.path!r}, 'w').write('.')\nopen({held.path!r}).read(1)\n"
        "@orch.workflow\ndef main():\n    return 1\n"
    )
    attempt = view.python(jobs.pid, bundle=freeze(Source.file(workflow), lab.store).digest)
    await view.submit(attempt)
    await said.wait()
    assert "import" in await view.session.describe(attempt.key)
    await _cancelled(view, attempt)
    said.close()
    held.close()
