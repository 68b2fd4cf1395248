"""Leaders that come and go: what they find, what they do not ask for, and what must not run twice."""

from __future__ import annotations

from orch.adapters.contract import Finished, Queued, Started, Unknown
from orch.attempt import Reason
from orch.errors import Fenced
from orch.testing.adapter.bench import Bench
from orch.testing.adapter.story import story


class Leaders:
    """What the next one finds."""

    @story()
    async def test_nobody_knows_it(self, bench: Bench) -> None:
        """Then it is unknown, to this question, and may be handed over."""
        leader = await bench.begin()
        attempt = bench.shell()
        await leader.session.find([attempt.key], 7)
        assert await leader.standing(attempt) == Unknown(attempt.key, 7)
        assert (await leader.run(attempt)).reason is Reason.FINISHED

    @story()
    async def test_finished_while_the_leader_was_away(self, bench: Bench) -> None:
        """The next one hears how it ended; and the one after that, while nobody has acknowledged it."""
        leader = await bench.begin()
        gate, after = bench.gate(), bench.folder / "after"
        attempt = bench.shell(f"{gate.wait}; echo here; touch '{after}'")
        await leader.submit(attempt)
        await leader.started(attempt)
        await leader.leave()
        gate.open()
        await bench.exists(after)
        for ask in (1, 2):
            leader = await bench.lead()
            await leader.session.find([attempt.key], ask)
            outcome = await leader.finished(attempt)
            assert bench.value(outcome).stdout == "here\n"
            assert not any(isinstance(update, Unknown) for update in leader.updates)
            if ask == 1:
                await leader.leave()
        await leader.session.acknowledge([attempt.key])

    @story()
    async def test_running_while_the_leader_was_away(self, bench: Bench) -> None:
        """The next one adopts it."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt)
        first = await leader.started(attempt)
        await leader.leave()
        leader = await bench.lead()
        await leader.session.find([attempt.key], 1)
        again = await leader.started(attempt)
        assert (again.host, again.pid) == (first.host, first.pid)
        gate.open()
        assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story()
    async def test_cancelled_by_the_next_leader(self, bench: Bench) -> None:
        """It can end what it has not started."""
        leader = await bench.begin()
        attempt = bench.shell("sleep 3600")
        await leader.submit(attempt)
        await leader.started(attempt)
        await leader.leave()
        leader = await bench.lead()
        await leader.session.find([attempt.key], 1)
        await leader.session.cancel([attempt.key])
        assert (await leader.finished(attempt)).reason is Reason.KILLED

    @story()
    async def test_waiting_while_the_leader_was_away(self, bench: Bench) -> None:
        """It is found in the queue, and runs when its turn comes."""
        leader = await bench.begin()
        attempt = bench.shell()
        async with bench.full(leader):
            await leader.submit(attempt)
            await leader.taken(attempt)
            keys = leader.submitted
            await leader.leave()
            leader = await bench.lead()
            await leader.session.find(keys, 1)
            assert isinstance(await leader.standing(attempt), Queued)
        assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story()
    async def test_what_is_not_asked_for_is_ended(self, bench: Bench) -> None:
        """Of this run: it is of no use to anybody. Nothing is said of it."""
        leader = await bench.begin()
        wanted, useless = bench.shell("sleep 3600"), bench.shell("sleep 3600")
        await leader.submit(wanted, useless)
        await leader.started(wanted)
        await leader.started(useless)
        await leader.leave()
        leader = await bench.lead()
        await leader.session.find([wanted.key], 1)
        await leader.started(wanted)
        if bench.rig.here:
            await bench.eventually(lambda: not _sleeping(bench, useless.job), lambda: f"there is {bench.processes()}")
        await leader.session.cancel([wanted.key])
        assert (await leader.finished(wanted)).reason is Reason.KILLED

    @story()
    async def test_the_leader_dies_while_it_hands_over(self, bench: Bench) -> None:
        """Whatever was on its way: the next one finds out, and each attempt runs once."""
        leader = await bench.begin()
        attempts = [bench.shell() for _ in range(5)]
        await leader.submit(*attempts)
        await leader.leave()
        leader = await bench.lead()
        await leader.session.find([each.key for each in attempts], 1)
        for attempt in attempts:
            if isinstance(await leader.standing(attempt), Unknown):
                await leader.submit(attempt)
            assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story("lose_answer")
    async def test_the_leader_dies_before_the_answer(self, bench: Bench) -> None:
        """The batch system has taken it, and nobody knows: the next leader finds out, and it runs once."""
        leader = await bench.begin()
        attempt = bench.shell()
        bench.rig.lose_answer("hang")
        await leader.submit(attempt)
        await bench.eventually(lambda: bench.ran(attempt), lambda: "it has not been taken")
        await leader.leave()
        leader = await bench.lead()
        await leader.session.find([attempt.key], 1)
        found = await leader.standing(attempt)
        assert isinstance(found, Queued | Started | Finished)
        assert (await leader.finished(attempt)).reason is Reason.FINISHED
        assert bench.ran(attempt) == 1

    @story()
    async def test_an_earlier_leader_is_refused(self, bench: Bench) -> None:
        """Where a later one is connected."""
        await bench.lead()
        later = await bench.lead()
        bench._epoch = 0  # noqa: SLF001 - the next leader is taken for the first
        try:
            await bench.lead()
        except Fenced:
            pass
        else:
            raise AssertionError("two leaders")
        finally:
            bench._epoch = 2  # noqa: SLF001 - as above
        assert (await later.run(bench.shell())).reason is Reason.FINISHED

    @story()
    async def test_said_twice(self, bench: Bench) -> None:
        """What is handed over, cancelled, asked for and acknowledged again does no harm, nor what nobody knows."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(gate.wait)
        await leader.submit(attempt, attempt)
        await leader.submit(attempt)
        await leader.session.find([attempt.key], 1)
        await leader.started(attempt)
        await leader.submit(attempt)
        await leader.session.find([attempt.key], 2)
        gate.open()
        assert (await leader.finished(attempt)).reason is Reason.FINISHED
        await leader.session.cancel([attempt.key])
        await leader.session.stop_services([attempt.key, "kit.998.1"])
        for _ in range(2):
            await leader.session.acknowledge([attempt.key, "kit.999.1"])
        assert (await leader.run(bench.shell())).reason is Reason.FINISHED
        assert {update.outcome.reason for update in leader.updates if isinstance(update, Finished)} == {Reason.FINISHED}
        assert bench.ran(attempt) == 1

    @story()
    async def test_cancelled_and_unknown(self, bench: Bench) -> None:
        """Who asks to end what nobody has hears that it is ended, or that nobody has it."""
        leader = await bench.begin()
        attempt = bench.shell()
        await leader.session.cancel([attempt.key])
        found = await leader.standing(attempt)
        if isinstance(found, Finished):
            assert found.outcome.reason is Reason.KILLED
        else:
            assert found == Unknown(attempt.key)
        assert bench.ran(attempt) == 0


def _sleeping(bench: Bench, job: int) -> bool:
    """Does the body of a job run here?"""
    return any(f"ran.{job}'" in process for process in bench.processes())
