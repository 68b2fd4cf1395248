"""Attempts of all forms, through the local adapter and a real agent."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import jobs
from support.agents import Lab, Signal, View

from orch.adapters.contract import Queued, Started
from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bundle import Source, freeze

FORMS = ["fork", "pool"]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


@pytest.fixture
async def view(lab: Lab) -> View:
    return await lab.open()


# Commands --------------------------------------------------------------------------------------------------------


async def test_a_command_succeeds_and_its_output_is_kept(view: View) -> None:
    outcome = await view.run_one(view.shell("echo out; echo err >&2"))
    assert outcome.reason is Reason.FINISHED
    assert outcome.exit_code == 0
    assert (outcome.stdout.data, outcome.stderr.data) == (b"out\n", b"err\n")
    result = view.result(outcome)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n", "err\n")
    assert outcome.usage.wall > 0
    assert outcome.host
    assert outcome.ended.endswith("Z")


async def test_a_command_runs_in_its_own_empty_directory_that_is_removed(view: View, lab: Lab) -> None:
    outcome = await view.run_one(view.shell('pwd; echo "$TMPDIR"; ls -A; mkdir -p a/b; touch a/b/c; chmod 0 a/b'))
    where, temporary = outcome.stdout.data.decode().splitlines()
    assert where == temporary
    assert Path(where).name not in lab.scratch()


async def test_a_command_in_a_directory_below_with_stdin_and_environment(view: View) -> None:
    spec = {"cwd": "müll eimer", "stdin": "größe\n".encode(), "env": {"NAME": "ein Wért\nmit Zeile"}}
    outcome = await view.run_one(view.command("sh", "-c", 'basename "$PWD"; cat; echo "$NAME"', spec=spec, name="ä /b"))
    assert outcome.stdout.data.decode() == "müll eimer\ngröße\nein Wért\nmit Zeile\n"


async def test_a_program_that_has_gone_is_looked_for_elsewhere(view: View, tmp_path: Path) -> None:
    """Where a program is, is remembered."""
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
        (place / "where").write_text(f"#!/bin/sh\necho {place.name}\n")
        (place / "where").chmod(0o755)
    path = ":".join(map(str, places))

    async def found() -> Outcome:
        return await view.run_one(view.command("where", spec={"env": {"PATH": path}}))

    said = [(await found()).stdout.data for _ in range(2)]
    (places[0] / "where").unlink()
    said.append((await found()).stdout.data)
    assert said == [b"first\n", b"first\n", b"second\n"]
    (places[1] / "where").unlink()
    assert (await found()).exit_code == 127


async def test_arguments_arrive_as_they_are(view: View) -> None:
    outcome = await view.run_one(view.command("printf", r"%s\n", "a b", "", "*", "ü\n$HOME"))
    assert outcome.stdout.data.decode() == "a b\n\n*\nü\n$HOME\n"


@pytest.mark.parametrize(
    ("argv", "exit_code", "number", "words"),
    [
        (["sh", "-c", "exit 3"], 3, 0, "exit code 3"),
        (["sh", "-c", "kill -SEGV $$"], None, signal.SIGSEGV, "SIGSEGV"),
        (["no-such-program"], 127, 0, "no-such-program"),
        (["./not-here"], 127, 0, "./not-here"),
        (["/etc/passwd"], 126, 0, "/etc/passwd"),
        (["/tmp"], 126, 0, "/tmp"),
        (["echo", "a\0b"], 126, 0, "cannot be started"),
    ],
)
async def test_a_command_fails(view: View, argv: list[str], exit_code: int | None, number: int, words: str) -> None:
    outcome = await view.run_one(view.command(*argv))
    assert outcome.reason is Reason.FAILED
    assert (outcome.exit_code, outcome.signal) == (exit_code, number)
    assert words in outcome.message


async def test_output_of_a_failed_command_is_kept(view: View) -> None:
    outcome = await view.run_one(view.shell("echo before; echo why >&2; exit 1"))
    assert (outcome.stdout.data, outcome.stderr.data) == (b"before\n", b"why\n")


async def test_output_too_long_for_the_log_is_a_file_of_the_store(view: View, lab: Lab) -> None:
    outcome = await view.run_one(view.shell("seq 1 50000"))
    assert outcome.stdout.file.endswith(".stdout")
    text = lab.store.read_bytes(outcome.stdout.file)
    assert text.splitlines()[-1] == b"50000"
    assert outcome.value.file
    assert view.result(outcome).stdout.encode() == text


async def test_a_flood_is_bounded_with_head_and_tail(view: View, lab: Lab, tmp_path: Path) -> None:
    """And while it runs, the disk has no more than the limit of it, and what came since the last look."""
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    script = f"echo first; head -c 300000000 /dev/zero; echo; echo last; echo . > {said.path}; read x < {held.path}"
    attempt = view.shell(script, max_log=1 << 20)
    await view.submit(attempt)
    await said.wait()
    Path(held.path).write_bytes(b"go\n")
    outcome = await view.outcome(attempt)
    text = lab.store.read_bytes(outcome.stdout.file)
    assert text.startswith(b"first\n")
    assert text.endswith(b"\nlast\n")
    assert len(text) < (1 << 20) + 100
    assert outcome.stdout.cut == 300000000 + len(b"first\n\nlast\n") - (1 << 20)
    assert f"[orch: {outcome.stdout.cut} bytes left out here]".encode() in text
    assert outcome.stdout.size == len(text)
    said.close()
    held.close()


async def test_the_output_of_a_running_attempt_can_be_seen(view: View, tmp_path: Path) -> None:
    said, held = Signal(tmp_path / "said"), Signal(tmp_path / "held")
    attempt = view.shell(f"echo so far; echo . > {said.path}; read x < {held.path}; echo more")
    await view.submit(attempt)
    await said.wait()
    assert await view.session.output(attempt.key) == (b"so far\n", b"")
    Path(held.path).write_bytes(b"go\n")
    assert (await view.outcome(attempt)).stdout.data == b"so far\nmore\n"
    said.close()
    held.close()


async def test_signals_are_as_in_a_shell(view: View) -> None:
    """Python ignores SIGPIPE, and that is inherited unless put right."""
    outcome = await view.run_one(view.shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"))
    blocked, ignored = (int(line.split()[1], 16) for line in outcome.stdout.data.decode().splitlines())
    assert blocked == 0
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGINT - 1))


async def test_no_descriptor_leaks_into_a_command(view: View) -> None:
    outcome = await view.run_one(view.command("ls", "/proc/self/fd"))
    assert outcome.stdout.data.split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


# Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_a_python_body_succeeds(view: View, form: str) -> None:
    outcome = await view.run_one(view.python(jobs.add, 40, 2, form=form))
    assert view.value(outcome) == 42
    assert outcome.host


@pytest.mark.parametrize("form", FORMS)
async def test_what_a_body_prints_is_kept(view: View, form: str) -> None:
    first = view.python(jobs.shout, "grün", form=form)
    second = view.python(jobs.shout, "x" * 100000, form=form)
    await view.submit(first, second)
    outcome = await view.outcome(first)
    assert (outcome.stdout.data.decode(), outcome.stderr.data.decode()) == ("grün\n", "GRÜN\n")
    outcome = await view.outcome(second)
    assert view.lab.store.read_bytes(outcome.stdout.file) == b"x" * 100000 + b"\n"


@pytest.mark.parametrize("form", FORMS)
async def test_a_body_that_raises_fails(view: View, form: str) -> None:
    outcome = await view.run_one(view.python(jobs.add, 1, "x", form=form))
    assert outcome.reason is Reason.FAILED
    assert "TypeError" in outcome.message
    assert b"TypeError" in outcome.stderr.data


@pytest.mark.parametrize("form", FORMS)
async def test_a_body_that_ends_its_process_fails(view: View, form: str) -> None:
    crashed, left = view.python(jobs.crash, form=form), view.python(jobs.leave, 7, form=form)
    await view.submit(crashed, left)
    outcome = await view.outcome(crashed)
    assert (outcome.reason, outcome.signal, outcome.exit_code) == (Reason.FAILED, signal.SIGSEGV, None)
    outcome = await view.outcome(left)
    assert (outcome.reason, outcome.signal, outcome.exit_code) == (Reason.FAILED, 0, 7)


@pytest.mark.parametrize("form", FORMS)
async def test_what_a_body_says_comes_before_its_end(view: View, form: str) -> None:
    attempt = view.python(jobs.note, "answer", [1, {"two": 2.5}], form=form)
    await view.run_one(attempt)
    notes = [update for update in view.updates if isinstance(update, Note)]
    assert [(note.kind, note.name, note.value) for note in notes] == [
        ("annotate", "answer", [1, {"two": 2.5}]),
        ("log", "", "a line"),
    ]


@pytest.mark.parametrize("form", FORMS)
async def test_the_environment_of_the_run_arrives_and_numeric_libraries_get_one_thread(lab: Lab, form: str) -> None:
    environment = {**os.environ, "SECRET": "a b=c\nd"}
    environment.pop("OMP_NUM_THREADS", None)
    view = await lab.open(environment=environment)
    secret, threads = (
        view.python(jobs.environment, "SECRET", form=form),
        view.python(jobs.environment, "OMP_NUM_THREADS", form=form),
    )
    await view.submit(secret, threads)
    assert view.value(await view.outcome(secret)) == "a b=c\nd"
    assert view.value(await view.outcome(threads)) == "1"


async def test_large_bodies_and_outcomes_travel_too(view: View) -> None:
    for form in FORMS:
        outcome = await view.run_one(view.python(len, b"x" * 500_000, form=form))
        assert view.value(outcome) == 500_000
        outcome = await view.run_one(view.python(bytes, 500_000, form=form))
        assert view.value(outcome) == bytes(500_000)


async def test_a_flood_of_a_worker_is_bounded(view: View, lab: Lab) -> None:
    flood, after = (
        view.python(jobs.flood, 100 << 20, form="pool", max_log=1 << 20),
        view.python(jobs.shout, "quiet", form="pool"),
    )
    await view.submit(flood, after)
    outcome = await view.outcome(flood)
    text = lab.store.read_bytes(outcome.stdout.file)
    assert text.startswith(b"the beginning\n")
    assert text.endswith(b"\nthe end\n")
    assert len(text) < (1 << 20) + 100
    assert (await view.outcome(after)).stdout.data == b"quiet\n"


async def test_warm_workers_run_many_attempts(view: View) -> None:
    attempts = [view.python(jobs.pid, form="pool") for _ in range(200)]
    await view.submit(*attempts)
    pids = {view.value(await view.outcome(each)) for each in attempts}
    assert len(pids) <= view.session.capacity().cores


async def test_what_waits_behind_a_worker_that_dies_goes_to_another(lab: Lab, tmp_path: Path) -> None:
    """Only the one that ran is charged, and each of the others runs once."""
    view = await lab.open(cores=1)
    marks = tmp_path / "marks"
    marks.mkdir()
    before = [view.python(jobs.touch, str(marks / f"before{number}"), form="pool") for number in range(20)]
    crash = view.python(jobs.crash, form="pool")
    after = [view.python(jobs.touch, str(marks / f"after{number}"), form="pool") for number in range(20)]
    await view.submit(*before, crash, *after)
    for each in [*before, *after]:
        assert (await view.outcome(each)).reason is Reason.FINISHED
    assert (await view.outcome(crash)).signal == signal.SIGSEGV
    assert len(list(marks.iterdir())) == 40
    assert all(mark.stat().st_size == 1 for mark in marks.iterdir())


async def test_what_waits_behind_a_slow_attempt_goes_to_another_worker(view: View, tmp_path: Path) -> None:
    held = Signal(tmp_path / "held")
    warm = [view.python(jobs.pid, form="pool") for _ in range(100)]  # by now, attempts are handed ahead
    slow = view.python(jobs.wait_for, held.path, form="pool")
    quick = [view.python(jobs.pid, form="pool") for _ in range(30)]
    await view.submit(*warm, slow, *quick)
    for each in [*warm, *quick]:
        await view.outcome(each)
    assert slow.key not in view.outcomes
    await view.session.cancel([slow.key])
    assert (await view.outcome(slow)).reason is Reason.KILLED
    held.close()


async def test_an_import_that_fails_fails_its_attempts_with_the_reason(view: View, lab: Lab) -> None:
    workflow = lab.root / "broken.py"
    workflow.write_text(
        "import orch\n@orch.workflow\ndef main():\n    return 1\nimport os\nif 'X' not in os.environ: 1 / 0\n"
    )
    bundle = freeze(Source.file(workflow), lab.store).digest
    for form in FORMS:
        attempts = [view.python(jobs.pid, form=form, bundle=bundle) for _ in range(3)]
        await view.submit(*attempts)
        for each in attempts:
            outcome = await view.outcome(each)
            assert outcome.reason is Reason.FAILED
            assert "ZeroDivisionError" in outcome.message
            assert "broken.py" in outcome.message


async def test_an_import_that_kills_its_process_says_what_it_said(view: View, lab: Lab) -> None:
    workflow = lab.root / "dead.py"
    workflow.write_text(
        "import os, sys, orch\nprint('last words', file=sys.stderr, flush=True)\nos.abort()\n"
        "@orch.workflow\ndef main():\n    return 1\n"
    )
    bundle = freeze(Source.file(workflow), lab.store).digest
    outcome = await view.run_one(view.python(jobs.pid, bundle=bundle))
    assert outcome.reason is Reason.FAILED
    assert "signal 6" in outcome.message
    assert "last words" in outcome.message


# Places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["command", *FORMS])
async def test_no_more_at_once_than_there_is(lab: Lab, tmp_path: Path, form: str) -> None:
    """Two runs together never have more than the host's cores; a run with one core never has two."""
    wide, narrow = await lab.open("wide"), await lab.open("narrow", cores=1)
    both, own = tmp_path / "both", tmp_path / "own"
    both.mkdir()
    own.mkdir()
    cores = int(wide.session.capacity().cores)
    assert narrow.session.capacity().cores == 1

    many, few = [_overlap(wide, both, form) for _ in range(8)], [_overlap(narrow, own, form) for _ in range(4)]
    await wide.submit(*many)
    await narrow.submit(*few)
    seen = [_count(wide, await wide.outcome(each), form) for each in many]
    assert max(seen) <= cores
    assert {_count(narrow, await narrow.outcome(each), form) for each in few} == {1}


def _overlap(view: View, directory: Path, form: str) -> Attempt:
    if form == "command":
        return view.shell(f"cd {directory}; touch $$; ls | wc -l; sleep 0.02; ls | wc -l; rm $$")
    return view.python(jobs.overlap, str(directory), form=form)


def _count(view: View, outcome: Outcome, form: str) -> int:
    if form == "command":
        return max(int(line) for line in view.result(outcome).stdout.split())
    return int(view.value(outcome))


async def test_more_than_there_is_is_an_error_that_says_so(view: View) -> None:
    outcome = await view.run_one(view.shell("true", cores=10000))
    assert outcome.reason is Reason.ERROR
    assert "cores: wanted 10000" in outcome.message


async def test_why_an_attempt_waits(view: View, tmp_path: Path) -> None:
    held = Signal(tmp_path / "held")
    cores = view.session.capacity().cores
    first, second = view.shell(f"read x < {held.path}", cores=cores), view.shell("true", cores=cores)
    await view.submit(first, second)
    assert isinstance(await view.standing(first), Started)
    assert isinstance(await view.standing(second), Queued)
    assert "cores" in await view.session.describe(second.key)
    assert not await view.session.describe(first.key)
    Path(held.path).write_bytes(b"go\n")
    assert (await view.outcome(second)).reason is Reason.FINISHED
    held.close()


async def test_a_known_key_is_not_run_again(view: View, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    attempt = view.python(jobs.touch, str(mark))
    await view.submit(attempt)
    await view.submit(attempt)
    await view.outcome(attempt, acknowledge=False)
    view.updates.clear()
    await view.submit(attempt)
    assert (await view.outcome(attempt)).reason is Reason.FINISHED
    assert mark.stat().st_size == 1


async def test_a_small_one_goes_before_a_large_one_that_has_no_room(lab: Lab, tmp_path: Path) -> None:
    view = await lab.open()
    cores = view.session.capacity().cores
    held = Signal(tmp_path / "held")
    half, whole, small = (
        view.shell(f"read x < {held.path}", cores=cores / 2),
        view.shell("true", cores=cores),
        view.shell("true", cores=cores / 4),
    )
    await view.submit(half, whole, small)
    await view.outcome(small)
    assert whole.key not in view.outcomes
    Path(held.path).write_bytes(b"go\n")
    await view.outcome(whole)
    held.close()
