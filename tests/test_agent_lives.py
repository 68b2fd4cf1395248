"""Leaders and agents that come, go and die."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import Lab, Signal, View, parent, process_gone

from orch.adapters.contract import Finished, Queued, Started, Unknown
from orch.agent import observe, paths, processes, protocol
from orch.attempt import Attempt, Reason
from orch.errors import AdapterError, Fenced
from orch.store import layout

FORMS = ["command", "fork", "pool"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


def _hanging(view: View, form: str, said: str) -> Attempt:
    if form == "command":
        return view.shell(f"(setsid sleep 3600 &); echo . > {said}; sleep 3600")
    return view.python(jobs.hang, said, form=form)


# Leaders ---------------------------------------------------------------------------------------------------------


async def test_the_next_leader_finds_what_runs_and_what_has_finished(lab: Lab, tmp_path: Path) -> None:
    held, said = Signal(tmp_path / "held"), Signal(tmp_path / "said")
    first = await lab.open()
    cores = first.session.capacity().cores
    done = first.shell("echo done")
    running = first.shell(f"echo . > {said.path}; read x < {held.path}; echo ran", cores=cores)
    queued = first.shell("echo queued", cores=cores)
    await first.submit(done, running, queued)
    await first.outcome(done, acknowledge=False)
    await said.wait()
    await first.close()
    second = await lab.open(epoch=2, find=False)
    await second.session.find([done.key, running.key, queued.key, "run.99.1"])
    assert isinstance(await second.standing(done), Finished)
    assert isinstance(await second.standing(running), Started)
    assert isinstance(await second.standing(queued), Queued)
    unknown = await second.until(lambda update: isinstance(update, Unknown))
    assert isinstance(unknown, Unknown)
    assert unknown.key == "run.99.1"
    Path(held.path).write_bytes(b"go\n")
    assert (await second.outcome(running)).stdout.data == b"ran\n"
    assert (await second.outcome(queued)).stdout.data == b"queued\n"
    held.close()
    said.close()


async def test_what_ends_while_nobody_leads_is_delivered(lab: Lab, tmp_path: Path) -> None:
    held, said, over = Signal(tmp_path / "held"), Signal(tmp_path / "said"), Signal(tmp_path / "over")
    first = await lab.open()
    attempt = first.shell(f"echo . > {said.path}; read x < {held.path}; echo ran; echo . > {over.path}")
    await first.submit(attempt)
    await said.wait()
    await first.close()
    Path(held.path).write_bytes(b"go\n")
    await over.wait()
    second = await lab.open(epoch=2, find=False)
    await second.session.find([attempt.key])
    assert (await second.outcome(attempt)).stdout.data == b"ran\n"
    for each in (held, said, over):
        each.close()


async def test_what_the_next_leader_does_not_name_is_ended(lab: Lab, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    first = await lab.open()
    attempt = first.shell(f"echo . > {said.path}; sleep 3600")
    await first.submit(attempt)
    started = await first.started(attempt)
    await said.wait()
    await first.close()
    second = await lab.open(epoch=2)
    await process_gone(started.pid)
    await second.session.find([attempt.key])  # it is gone, or its end is told
    last = await second.until(lambda update: isinstance(update, Unknown | Finished))
    assert isinstance(last, Unknown) or last.outcome.reason is Reason.KILLED  # type: ignore[union-attr]
    said.close()


async def test_an_older_epoch_is_refused_and_an_older_connection_ended(lab: Lab) -> None:
    old = await lab.open(epoch=1)
    new = await lab.open(epoch=2)
    with pytest.raises(Fenced, match="epoch 2"):
        await old.until(lambda _: False)
    with pytest.raises(Fenced, match="epoch 2"):
        await lab.open(epoch=1)
    assert (await new.run_one(new.shell("true"))).reason is Reason.FINISHED


async def test_an_epoch_that_only_the_log_knows_of_counts_as_well(lab: Lab) -> None:
    lab.store.write_bytes(f"{layout.log_dir('run')}/000003.events.jsonl", b"")
    with pytest.raises(Fenced, match="epoch 3"):
        await lab.open(epoch=2)


async def test_many_runs_at_once(lab: Lab) -> None:
    views = [await lab.open(f"run{number}") for number in range(10)]
    assert len({view.agent for view in views}) == 1
    attempts = [view.shell("echo $ORCH_ATTEMPT") for view in views]
    for view, attempt in zip(views, attempts, strict=True):
        await view.submit(attempt)
    for view, attempt in zip(views, attempts, strict=True):
        assert attempt.key.encode() in (await view.outcome(attempt)).stdout.data


# The agent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_with_the_agent_dies_all_that_it_runs_and_the_next_says_lost(lab: Lab, tmp_path: Path, form: str) -> None:
    said = Signal(tmp_path / "said")
    view = await lab.open()
    done = view.shell("echo done")
    await view.submit(done)
    await view.outcome(done, acknowledge=False)
    attempt = _hanging(view, form, said.path)
    await view.submit(attempt)
    await said.wait()
    dead = view.agent
    os.kill(dead, signal.SIGKILL)
    assert (await view.outcome(attempt)).reason is Reason.LOST
    assert not [pid for pid in lab.marked() if attempt.key in processes.tag(pid)]
    assert view.agent != dead
    told = [each for each in view.updates if isinstance(each, Finished) and each.key == done.key]
    assert len(told) == 2  # and again, from the dead agent's journal
    assert told[0].outcome == told[1].outcome
    assert (await view.run_one(view.shell("echo new"))).stdout.data == b"new\n"
    assert not lab.scratch()
    said.close()


async def test_when_agent_and_leader_die_nothing_survives(lab: Lab, tmp_path: Path) -> None:
    """Without another agent: the guardian sees to it."""
    said = Signal(tmp_path / "said")
    first = await lab.open()
    attempts = [_hanging(first, form, said.path) for form in ("command", "fork")]
    await first.submit(*attempts)
    pids = [(await first.started(each)).pid for each in attempts]
    await said.wait(2)
    everything = {*lab.marked(), *pids}
    await first.close()
    os.kill(first.agent, signal.SIGKILL)
    for pid in everything:
        await process_gone(pid)
    assert not lab.marked()
    second = await lab.open(epoch=2, find=False)
    await second.session.find([each.key for each in attempts])
    for each in attempts:
        assert (await second.outcome(each)).reason is Reason.LOST
    said.close()


async def test_when_agent_and_guardian_die_the_next_agent_ends_what_survives(lab: Lab, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    first = await lab.open()
    attempt = first.shell(f"(setsid sleep 3600 &); echo . > {said.path}; sleep 3600")
    await first.submit(attempt)
    started = await first.started(attempt)
    await said.wait()
    survivors = lab.marked()
    assert started.pid in survivors
    await first.close()
    os.kill(first.guardian, signal.SIGKILL)
    os.kill(first.agent, signal.SIGKILL)
    second = await lab.open(epoch=2, find=False)
    await second.session.find([attempt.key])
    assert (await second.outcome(attempt)).reason is Reason.LOST
    for pid in survivors:
        await process_gone(pid)
    said.close()


async def test_a_template_that_dies_costs_only_what_it_had_forked(lab: Lab, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    view = await lab.open()
    fork, worked = view.python(jobs.hang, said.path), view.python(jobs.hang, said.path, form="pool")
    await view.submit(fork, worked)
    started = await view.started(fork)
    await view.started(worked)
    await said.wait(2)
    os.kill(parent(started.pid), signal.SIGKILL)
    assert (await view.outcome(fork)).reason is Reason.LOST
    assert (await view.outcome(worked)).reason is Reason.LOST
    assert view.value(await view.run_one(view.python(jobs.add, 1, 1))) == 2
    said.close()


async def test_an_agent_leaves_when_nobody_needs_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0.05")
    view = await lab.open()
    await view.run_one(view.python(jobs.pid))
    unread = view.shell("echo kept")
    await view.submit(unread)
    await view.outcome(unread, acknowledge=False)
    guardian = view.guardian
    await view.close()
    await process_gone(guardian)
    assert not lab.marked()
    assert not Path(lab.runtime, paths.SOCKET).exists()
    second = await lab.open(epoch=2, find=False)
    assert second.agent != view.agent
    await second.session.find([unread.key])
    assert (await second.outcome(unread)).stdout.data == b"kept\n"


async def test_an_agent_does_not_leave_while_something_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0")
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    first = await lab.open()
    attempt = first.shell(f"echo . > {said.path}; read x < {held.path}; sleep 0.1; echo ran")
    await first.submit(attempt)
    await said.wait()
    await first.close()
    Path(held.path).write_bytes(b"go\n")
    second = await lab.open(epoch=2, find=False)
    await second.session.find([attempt.key])
    assert (await second.outcome(attempt)).stdout.data == b"ran\n"
    said.close()
    held.close()


async def test_sigterm_ends_attempts_as_lost(lab: Lab, tmp_path: Path) -> None:
    said = Signal(tmp_path / "said")
    view = await lab.open()
    attempt = view.shell(f"echo . > {said.path}; sleep 3600")
    await view.submit(attempt)
    await said.wait()
    os.kill(view.agent, signal.SIGTERM)
    assert (await view.outcome(attempt)).reason is Reason.LOST
    late = view.shell("true")
    await view.submit(late)  # the old agent takes nothing on any more, and the new one says so
    if isinstance(await view.standing(late), Unknown):
        view.updates.clear()
        await view.submit(late)
    assert (await view.outcome(late)).reason is Reason.FINISHED
    said.close()


async def test_two_that_start_an_agent_at_once_get_the_same(lab: Lab) -> None:
    views = await asyncio.gather(*(lab.open(f"run{number}") for number in range(5)))
    assert len({view.agent for view in views}) == 1


async def test_a_work_directory_of_200_characters(tmp_path: Path) -> None:
    deep = tmp_path / "ä b"
    while len(str(deep)) < 200:
        deep /= "directory"
    lab = Lab(tmp_path, deep)
    view = await lab.open()
    attempts = [view.shell("pwd"), view.python(os.getcwd), view.python(jobs.pid, form="pool")]
    await view.submit(*attempts)
    for each in attempts:
        assert (await view.outcome(each)).reason is Reason.FINISHED
    assert str(deep) in view.outcomes[attempts[0].key].stdout.data.decode()
    await lab.close()


async def test_a_work_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    Path(lab.runtime).chmod(0o755)
    with pytest.raises(AdapterError, match="open to other users"):
        await lab.open()


async def test_the_runtime_directory_is_private(lab: Lab) -> None:
    await lab.open()
    assert stat.S_IMODE(Path(lab.runtime).stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(lab.runtime, paths.SOCKET).stat().st_mode) == 0o600


async def test_an_agent_that_cannot_start_says_why(lab: Lab) -> None:
    (Path(lab.runtime) / "scratch").write_text("in the way")
    with pytest.raises(AdapterError, match="File exists"):
        await lab.open()
    (Path(lab.runtime) / "scratch").unlink()
    Path(paths.agent_directory(str(lab.store.root)), "agent.log").unlink()


async def test_an_observer_sees_what_an_attempt_has_written_and_disturbs_nobody(lab: Lab, tmp_path: Path) -> None:
    root = str(lab.store.root)
    assert observe.ask(root, "run.1.1") is None  # and starts no agent
    assert not lab.agent_log()
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    view = await lab.open()
    attempt = view.shell(f"echo so far; echo . > {said.path}; read x < {held.path}; echo more")
    await view.submit(attempt)
    await said.wait()
    answer = await asyncio.to_thread(observe.ask, root, attempt.key)
    assert answer is not None
    assert (answer.out, answer.err, answer.text) == (b"so far\n", b"", "")
    assert await asyncio.to_thread(observe.ask, root, "run.7.1") is None
    Path(held.path).write_bytes(b"go\n")
    assert (await view.outcome(attempt)).stdout.data == b"so far\nmore\n"
    assert await asyncio.to_thread(observe.ask, root, attempt.key) is None
    said.close()
    held.close()


async def test_who_does_more_than_ask_has_to_say_hello(lab: Lab) -> None:
    view = await lab.open()
    attempt = view.shell("true")
    connection = paths.connect(lab.runtime)
    assert connection is not None
    with connection:
        connection.sendall(protocol.frame(protocol.Submit([attempt])))
        heard = protocol.Frames().feed(await asyncio.to_thread(connection.recv, 65536))
    assert protocol.from_agent(heard[0]) == protocol.Refused("say hello first")
    assert (await view.run_one(attempt)).reason is Reason.FINISHED


async def test_the_environment_of_a_run_is_on_no_disk_and_no_command_line(lab: Lab) -> None:
    view = await lab.open(environment={**os.environ, "TOKEN": "a-very-secret-token"})
    outcome = await view.run_one(view.shell("echo ${#TOKEN}"))
    assert outcome.stdout.data == b"19\n"
    for root in (lab.store.root, Path(lab.runtime)):
        for path in root.rglob("*"):
            if path.is_file():
                assert b"a-very-secret-token" not in path.read_bytes()
    assert b"a-very-secret-token" not in Path(f"/proc/{view.agent}/cmdline").read_bytes()


async def test_the_agent_holds_no_descriptor_of_its_leader(lab: Lab, tmp_path: Path) -> None:
    """A lock's among them: it would keep a dead leader alive."""
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        view = await lab.open()
    for pid in (view.agent, view.guardian):
        held = [os.readlink(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")]
        assert str(lock) not in held
        assert os.getsid(pid) != os.getsid(0)


async def test_each_run_has_the_work_directory_that_it_asked_for_and_they_share_the_agent(
    lab: Lab, tmp_path: Path
) -> None:
    here = await lab.open("here")
    there = await lab.open("there", work_dir=str(tmp_path / "elsewhere"))
    assert here.agent == there.agent
    for view, root in ((here, lab.work_dir), (there, tmp_path / "elsewhere")):
        for attempt in (view.shell("echo $TMPDIR"), view.python(jobs.environment, "TMPDIR")):
            found = view.value(await view.run_one(attempt))
            where = found if isinstance(found, str) else found.stdout
            assert where.startswith(f"{root}/")


async def test_a_work_directory_that_breaks_is_an_error_of_the_attempt(lab: Lab) -> None:
    view = await lab.open()
    await view.run_one(view.shell("true"))
    for name in ("lent", "scratch", "spare"):
        path = Path(lab.runtime, name)
        path.rename(path.with_name(f"{name}.away"))
    for attempt in (view.shell("true"), view.shell("true")):
        outcome = await view.run_one(attempt)
        assert outcome.reason is Reason.ERROR
        assert "cannot be started" in outcome.message
    for name in ("lent", "scratch", "spare"):
        path = Path(lab.runtime, name)
        path.with_name(f"{name}.away").rename(path)
    assert (await view.run_one(view.shell("true"))).reason is Reason.FINISHED
