"""The ends that an attempt can come to, and that nothing is left of it then."""

from __future__ import annotations

import shlex

from orch.attempt import Reason
from orch.results import CommandResult
from orch.store.blobs import blob_bytes
from orch.testing.adapter import bodies
from orch.testing.adapter.bench import Bench
from orch.testing.adapter.story import story

MIB = 1 << 20
FOREVER = "sleep 3600"


class Endings:
    """How attempts end."""

    @story()
    async def test_exit_code_0(self, bench: Bench) -> None:
        """It is queued or started, and has finished, with what it printed."""
        leader = await bench.begin()
        attempt = bench.shell("echo out; echo err >&2")
        outcome = await leader.run(attempt)
        assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.FINISHED, 0, 0), outcome
        result = bench.value(outcome)
        assert isinstance(result, CommandResult)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n", "err\n")
        assert await leader.taken(attempt)
        assert outcome.host
        assert bench.ran(attempt) == 1

    @story()
    async def test_exit_code_3(self, bench: Bench) -> None:
        """It has failed, and what it said is kept."""
        leader = await bench.begin()
        outcome = await leader.run(bench.shell("echo why >&2; exit 3"))
        assert (outcome.reason, outcome.exit_code) == (Reason.FAILED, 3), outcome
        assert "3" in outcome.message
        assert blob_bytes(bench.store, outcome.stderr) == b"why\n"

    @story()
    async def test_killed_by_a_signal(self, bench: Bench) -> None:
        """It has failed, and the signal is known."""
        leader = await bench.begin()
        outcome = await leader.run(bench.shell("kill -USR2 $$"))
        assert (outcome.reason, outcome.signal) == (Reason.FAILED, 12), outcome

    @story()
    async def test_a_program_that_is_not_there(self, bench: Bench) -> None:
        """It has not run, and its name is said."""
        leader = await bench.begin()
        outcome = await leader.run(bench.command(["/no/such prögram"]))
        assert outcome.reason in {Reason.FAILED, Reason.ERROR}, outcome
        assert "/no/such prögram" in outcome.message + blob_bytes(bench.store, outcome.stderr).decode()

    @story()
    async def test_out_of_memory(self, bench: Bench) -> None:
        """It had more memory than it asked for."""
        leader = await bench.begin()
        outcome = await leader.run(bench.python(bodies.eat, 400 * MIB, memory=100 * MIB))
        assert outcome.reason in bench.rig.accepted("memory"), outcome
        assert outcome.message

    @story()
    async def test_over_time(self, bench: Bench) -> None:
        """It ran longer than it asked for."""
        leader = await bench.begin()
        outcome = await leader.run(bench.shell(FOREVER, walltime=0.5))
        assert outcome.reason in bench.rig.accepted("walltime"), outcome
        assert outcome.message

    @story()
    async def test_cancelled_while_it_waits(self, bench: Bench) -> None:
        """It never runs."""
        leader = await bench.begin()
        attempt = bench.shell()
        async with bench.full(leader):
            await leader.submit(attempt)
            await leader.taken(attempt)
            await leader.session.cancel([attempt.key])
            outcome = await leader.finished(attempt)
        assert outcome.reason is Reason.KILLED, outcome
        assert (await leader.run(bench.shell())).reason is Reason.FINISHED
        assert bench.ran(attempt) == 0

    @story()
    async def test_cancelled_while_it_runs(self, bench: Bench) -> None:
        """All that it has started ends, whatever it has done to get away."""
        leader = await bench.begin()
        up = bench.folder / "up"
        away = f"setsid {FOREVER} & setsid sh -c '{FOREVER} & wait' & echo up > {shlex.quote(str(up))}"
        script = f"trap '' TERM; ({away}) & {FOREVER}"
        attempt = bench.shell(script)
        await leader.submit(attempt)
        await leader.started(attempt)
        await bench.exists(up)
        await leader.session.cancel([attempt.key])
        await leader.session.cancel([attempt.key])
        assert (await leader.finished(attempt)).reason is Reason.KILLED
        assert not bench.rig.here or not bench.processes(), bench.processes()

    @story()
    async def test_what_it_leaves_behind_is_ended(self, bench: Bench) -> None:
        """An attempt is over when its first process is."""
        leader = await bench.begin()
        assert (await leader.run(bench.shell(f"setsid {FOREVER} >/dev/null 2>&1 &"))).reason is Reason.FINISHED

    @story("cancel_outside")
    async def test_cancelled_by_somebody_else(self, bench: Bench) -> None:
        """One that runs, and one that waits, end; and it is said that it was not us."""
        leader = await bench.begin()
        runs, waits = bench.shell(FOREVER), bench.shell()
        await leader.submit(runs)
        await leader.started(runs)
        async with bench.full(leader):
            await leader.submit(waits)
            for attempt in (runs, waits):
                bench.rig.cancel_outside(await leader.taken(attempt))
                outcome = await leader.finished(attempt)
                assert outcome.reason in bench.rig.accepted("cancelled outside"), outcome
                assert outcome.message
        assert bench.ran(waits) == 0

    @story("lose_node")
    async def test_its_node_is_lost(self, bench: Bench) -> None:
        """So is the attempt, and that is no fault of the job."""
        leader = await bench.begin()
        attempt = bench.shell(FOREVER)
        await leader.submit(attempt)
        pid = (await leader.started(attempt)).pid
        bench.rig.lose_node(await leader.taken(attempt), pid)
        outcome = await leader.finished(attempt)
        assert outcome.reason in bench.rig.accepted("node"), outcome

    @story("preempt")
    async def test_its_place_is_taken_away(self, bench: Bench) -> None:
        """The batch system knows why, and the worker does not."""
        leader = await bench.begin()
        attempt = bench.shell(FOREVER)
        await leader.submit(attempt)
        await leader.started(attempt)
        bench.rig.preempt(await leader.taken(attempt))
        outcome = await leader.finished(attempt)
        assert outcome.reason in bench.rig.accepted("preempted"), outcome

    @story("refuse")
    async def test_refused(self, bench: Bench) -> None:
        """It will never run, and the batch system's own words say why."""
        leader = await bench.begin()
        bench.rig.refuse("there is no queue of that näme")
        attempt = bench.shell()
        outcome = await leader.run(attempt)
        assert outcome.reason in bench.rig.accepted("refused"), outcome
        assert "no queue of that n" in outcome.message
        assert (await leader.run(bench.shell())).reason is Reason.FINISHED
        assert bench.ran(attempt) == 0
