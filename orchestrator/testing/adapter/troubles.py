"""A batch system that fails: that delays a run, and is said; it ends nothing, loses nothing, and runs nothing twice."""

from __future__ import annotations

from orch.attempt import Reason
from orch.testing.adapter.bench import Bench, Leader
from orch.testing.adapter.story import story

GARBAGE = "<html>503 \u2764</html>\n{]"


class Troubles:
    """What batch systems do."""

    @story("down")
    async def test_down_while_attempts_are_handed_over(self, bench: Bench) -> None:
        """They are handed over when it answers again."""
        leader = await bench.begin()
        attempts = [bench.shell() for _ in range(3)]
        bench.rig.down(down=True)
        try:
            await leader.submit(*attempts)
            await _complained(bench, leader)
            assert leader.outcomes == {}
        finally:
            bench.rig.down(down=False)
        for attempt in attempts:
            assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("down")
    async def test_down_while_they_run_and_wait(self, bench: Bench) -> None:
        """What runs ends as it would; what waits goes on waiting."""
        leader = await bench.begin()
        gate = bench.gate()
        runs, waits = bench.shell(gate.wait), bench.shell()
        await leader.submit(runs)
        await leader.started(runs)
        async with bench.full(leader):
            await leader.submit(waits)
            await leader.taken(waits)
            bench.rig.down(down=True)
            try:
                await _complained(bench, leader)
                gate.open()
                await bench.eventually(lambda: not bench.processes(), lambda: "it goes on")
            finally:
                bench.rig.down(down=False)
            assert waits.key not in leader.outcomes
        for attempt in (runs, waits):
            assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("down")
    async def test_down_while_it_is_cancelled(self, bench: Bench) -> None:
        """The wish is pursued until it has been heard."""
        leader = await bench.begin()
        attempt = bench.shell("sleep 3600")
        await leader.submit(attempt)
        await leader.started(attempt)
        bench.rig.down(down=True)
        try:
            await leader.session.cancel([attempt.key])
            await _complained(bench, leader)
        finally:
            bench.rig.down(down=False)
        assert (await leader.finished(attempt)).reason is Reason.KILLED

    @story("down")
    async def test_down_when_the_next_leader_comes(self, bench: Bench) -> None:
        """It says nothing of what it cannot know, and finds it later."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt)
        await leader.started(attempt)
        await leader.leave()
        bench.rig.down(down=True)
        try:
            leader = await bench.lead()
            await leader.session.find([attempt.key], 1)
        finally:
            bench.rig.down(down=False)
        await leader.started(attempt)
        gate.open()
        assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("nonsense")
    async def test_nonsense(self, bench: Bench) -> None:
        """Answers that nobody understands count as none, also of a submission."""
        leader = await bench.begin()
        gate = bench.gate()
        runs, handed_over = bench.shell(gate.wait), bench.shell()
        await leader.submit(runs)
        await leader.started(runs)
        bench.rig.nonsense(GARBAGE)
        try:
            await leader.submit(handed_over)
            await _complained(bench, leader)
            assert runs.key not in leader.outcomes
        finally:
            bench.rig.nonsense("")
        gate.open()
        for attempt in (runs, handed_over):
            assert (await leader.finished(attempt)).reason is Reason.FINISHED
            assert bench.ran(attempt) == 1

    @story("slow")
    async def test_slow(self, bench: Bench) -> None:
        """It takes longer, and that is all."""
        leader = await bench.begin()
        bench.rig.slow(0.5)
        try:
            ends, ended = bench.shell("exit 3"), bench.shell("sleep 3600")
            await leader.submit(ends, ended)
            assert (await leader.finished(ends)).exit_code == 3
            await leader.started(ended)
            await leader.session.cancel([ended.key])
            assert (await leader.finished(ended)).reason is Reason.KILLED
        finally:
            bench.rig.slow(0)

    @story("lose_answer")
    async def test_the_answer_is_lost(self, bench: Bench) -> None:
        """It was taken all the same, and runs once."""
        leader = await bench.begin()
        bench.rig.lose_answer("fail")
        attempts = [bench.shell(), bench.shell()]
        await leader.submit(*attempts)
        for attempt in attempts:
            assert (await leader.finished(attempt)).reason is Reason.FINISHED
            assert bench.ran(attempt) == 1

    @story("forget")
    async def test_forgotten_while_it_waits(self, bench: Bench) -> None:
        """It will never run, and that is known some time; not because it stands in no list once."""
        leader = await bench.begin()
        attempt = bench.shell()
        async with bench.full(leader):
            await leader.submit(attempt)
            bench.rig.forget(await leader.taken(attempt))
            outcome = await leader.finished(attempt)
        assert outcome.reason in bench.rig.accepted("forgotten"), outcome
        assert outcome.message
        assert (await leader.run(bench.shell())).reason is Reason.FINISHED
        assert bench.ran(attempt) == 0

    @story("forget")
    async def test_forgotten_while_it_runs(self, bench: Bench) -> None:
        """What it leaves behind counts, whatever the batch system knows."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt)
        await leader.started(attempt)
        bench.rig.forget(await leader.taken(attempt))
        gate.open()
        assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("strange")
    async def test_a_state_that_nobody_has_heard_of(self, bench: Bench) -> None:
        """It is no end."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt)
        await leader.started(attempt)
        bench.rig.strange(await leader.taken(attempt), "BANANA")
        other = bench.shell()
        assert (await leader.run(other)).reason is Reason.FINISHED
        assert attempt.key not in leader.outcomes
        gate.open()
        assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("twice")
    async def test_told_twice(self, bench: Bench) -> None:
        """Each task twice in each answer: they are the same."""
        leader = await bench.begin()
        bench.rig.twice(twice=True)
        attempts = [bench.shell(f"exit {code}") for code in (0, 3)]
        await leader.submit(*attempts)
        assert [(await leader.finished(attempt)).exit_code for attempt in attempts] == [0, 3]

    @story("start_again")
    async def test_started_twice(self, bench: Bench) -> None:
        """The second one sees that the first has it, and leaves."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt)
        await leader.started(attempt)
        bench.rig.start_again(await leader.taken(attempt))
        gate.open()
        await leader.finished(attempt)
        assert bench.ran(attempt) == 1


async def _complained(bench: Bench, leader: Leader) -> None:
    """Wait until the user is told that the batch system does not do what it should."""
    await bench.eventually(leader.said, lambda: "nobody has said that the batch system is in trouble")
