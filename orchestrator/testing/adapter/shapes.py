"""What attempts are made of: names, arguments, environments, Python, files, services, much output, many at once."""

from __future__ import annotations

import shlex
from pathlib import Path

from orch.adapters.contract import Update
from orch.attempt import Note, Reason
from orch.results import CommandResult
from orch.store.blobs import blob_bytes
from orch.testing.adapter import bodies
from orch.testing.adapter.bench import Bench
from orch.testing.adapter.story import story

ODD = [
    "",
    " ",
    "a b",
    "ü€😀",
    "\"'`\\",
    "$HOME ${PATH} $(id) %d %%",
    "*?[a]~",
    "-n",
    "--",
    "#!/x",
    "a\nb\t",
    ";&|<>()",
    "a,b=c",
    "!x ^y",
]
"""Words that some shell, file format or command of a batch system takes for something else."""

BIG = 300_000
"""Bytes: more than travels inside events (64 KiB)."""


class Shapes:
    """What attempts can be."""

    @story()
    async def test_odd_words_in_arguments(self, bench: Bench) -> None:
        """They arrive as they are."""
        leader = await bench.begin()
        result = bench.value(await leader.run(bench.command(["printf", "<%s>", *ODD])))
        assert result.stdout == "".join(f"<{word}>" for word in ODD)

    @story()
    async def test_odd_words_in_the_environment(self, bench: Bench) -> None:
        """Of the command, of the attempt and of the run; what the run has is there, whatever a login has."""
        odd = {f"ODD_{number}": word for number, word in enumerate(ODD)}
        info = bench.rig.info(str(bench.store.root), "kit", 1)
        named = {"FROM_RUN": "\n".join(ODD), "LANG": "C.UTF-8"}
        leader = await bench.begin(environment={**info.environment, **named}, named=list(named))
        attempt = bench.command(["env", "-0"], env=odd)
        outcome = await leader.run(attempt)
        found = dict(item.split("=", 1) for item in bench.value(outcome).stdout.split("\0") if item)
        assert {name: found.get(name) for name in odd} == odd
        assert {name: found.get(name) for name in named} == named

    @story()
    async def test_odd_names(self, bench: Bench) -> None:
        """Of jobs: what people see of them in the queue is not what they are known by."""
        leader = await bench.begin()
        attempts = [bench.shell(name=word, kind=word) for word in [*ODD, "x" * 3000]]
        await leader.submit(*attempts)
        for attempt in attempts:
            assert (await leader.finished(attempt)).reason is Reason.FINISHED

    @story()
    async def test_python(self, bench: Bench) -> None:
        """Functions run in forks and in pool workers; values come back."""
        leader = await bench.begin()
        attempts = [
            bench.python(bodies.describe, 1, ODD, kwargs={"ü": b"\0"}, form=form, env={"OF_IT": "a\nü"})
            for form in ("fork", "pool")
        ]
        await leader.submit(*attempts)
        for attempt in attempts:
            value = bench.value(await leader.finished(attempt))
            assert (value["args"], value["kwargs"]) == ((1, ODD), {"ü": b"\0"})
            assert value["environment"].get("OF_IT") == "a\nü"
            await leader.until(lambda update, key=attempt.key: _is_colour(update, key), "the annotation")  # type: ignore[misc]

    @story()
    async def test_a_body_that_raises(self, bench: Bench) -> None:
        """What it raised is said, and of which class."""
        leader = await bench.begin()
        outcome = await leader.run(bench.python(bodies.describe, 1, form="fork", kwargs={"ran": "twice"}))
        assert outcome.reason is Reason.FAILED, outcome
        assert (outcome.message.split(":")[0], outcome.errors[0]) == ("TypeError", "builtins.TypeError")

    @story()
    async def test_a_file(self, bench: Bench) -> None:
        """It is in the store when the attempt is over."""
        leader = await bench.begin()
        outcome = await leader.run(bench.python(bodies.write_file, "wörds\n"))
        bench.value(outcome)
        [stored] = outcome.files
        assert bench.store.read_bytes(stored.path) == "wörds\n".encode()

    @story()
    async def test_much(self, bench: Bench) -> None:
        """Values and output that are larger than what travels in events."""
        leader = await bench.begin()
        value, output = bench.python(bodies.much, BIG), bench.shell(f"head -c {BIG} /dev/zero | tr '\\0' x")
        await leader.submit(value, output)
        assert bench.value(await leader.finished(value)) == bytes(BIG)
        result = bench.value(await leader.finished(output))
        assert isinstance(result, CommandResult)
        assert result.stdout == "x" * BIG

    @story()
    async def test_a_service(self, bench: Bench) -> None:
        """It says that it is up, and stops by itself when it is told to."""
        leader = await bench.begin()
        said = bench.folder / "said"
        attempt = bench.python(bodies.door, str(said), form="service")
        await leader.submit(attempt)
        await leader.until(lambda update: isinstance(update, Note) and update.kind == "up", "that it is up")
        await leader.session.stop_services([attempt.key])
        assert (await leader.finished(attempt)).reason is Reason.FINISHED
        assert said.exists()

    @story()
    async def test_a_service_that_is_cancelled(self, bench: Bench) -> None:
        """It ends, gently or not."""
        leader = await bench.begin()
        attempt = bench.python(bodies.door, str(bench.folder / "said"), form="service")
        await leader.submit(attempt)
        await leader.started(attempt)
        await leader.session.cancel([attempt.key])
        assert (await leader.finished(attempt)).reason in {Reason.KILLED, Reason.FINISHED}

    @story()
    async def test_what_it_has_written_so_far(self, bench: Bench) -> None:
        """Can be read while it runs."""
        leader = await bench.begin()
        gate = bench.gate()
        attempt = bench.shell(f"echo öut; echo err >&2; {gate.wait}")
        await leader.submit(attempt)
        await leader.started(attempt)
        said = ("öut\n".encode(), b"err\n")
        await bench.until(lambda: leader.session.output(attempt.key), lambda found: found == said)
        gate.open()
        await leader.finished(attempt)

    @story()
    async def test_why_it_waits(self, bench: Bench) -> None:
        """There are words for people, in one line."""
        leader = await bench.begin()
        attempt = bench.shell()
        async with bench.full(leader):
            await leader.submit(attempt)
            await leader.taken(attempt)
            text = await bench.until(lambda: leader.session.describe(attempt.key), bool)
            assert "\n" not in text
        assert (await leader.finished(attempt)).reason is Reason.FINISHED
        assert await leader.session.describe("kit.999.1") == ""

    @story()
    async def test_many_at_once(self, bench: Bench) -> None:
        """Each runs once."""
        leader = await bench.begin()
        attempts = [bench.shell(f"echo {number}; exit {number % 3}") for number in range(bench.rig.many)]
        await leader.submit(*attempts)
        for number, attempt in enumerate(attempts):
            outcome = await leader.finished(attempt)
            assert outcome.exit_code == number % 3, outcome
            assert blob_bytes(bench.store, outcome.stdout) == f"{number}\n".encode() or number % 3 == 0
        assert [bench.ran(attempt) for attempt in attempts] == [1] * len(attempts)

    @story()
    async def test_what_there_is(self, bench: Bench) -> None:
        """Something; and no more than the run may have, which can change."""
        leader = await bench.begin()
        capacity = leader.session.capacity
        before = capacity()
        assert before.cores > 0
        assert before.memory > 0
        await leader.session.limit(0.5, 1 << 30, 1 << 30)
        await bench.eventually(
            lambda: capacity().cores <= 0.5 and capacity().memory <= 1 << 30,
            lambda: f"a run that may have half a core has {capacity()}",
        )
        await leader.session.limit(0, 0, 0)
        leader.session.stand_still(waits=False)
        await bench.eventually(
            lambda: capacity().cores == before.cores,
            lambda: f"a run without limits has {capacity()}, not {before}",
        )

    @story()
    async def test_in_a_folder_of_its_own(self, bench: Bench) -> None:
        """A scratch directory, gone afterwards; and `cwd` below it."""
        leader = await bench.begin()
        kept = shlex.quote(str(bench.folder / "where"))
        outcome = await leader.run(bench.shell(f"pwd > {kept}; touch 'a file'; ls"))
        assert bench.value(outcome).stdout == "a file\n"
        where = (bench.folder / "where").read_text().strip()
        if bench.rig.here:
            await bench.eventually(lambda: not _exists(where), lambda: f"there still is {where}")


def _exists(path: str) -> bool:
    return (Path(path) / "a file").exists()


def _is_colour(update: Update, key: str) -> bool:
    return isinstance(update, Note) and (update.key, update.name, update.value) == (key, "colour", "grün")
