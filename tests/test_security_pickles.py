"""Pickles are read from a run's own store, log and socket only, and by whoever needs a value; a look reads none."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support.handmade import created, started, write_run
from support.sources import mentions, modules

from orch.authoring.pickling import dumps, loads
from orch.bus import events as ev
from orch.cli.main import COMMANDS, main

READERS = {
    "orchestrator/authoring/pickling.py": "the unpickler, which the others here use",
    "orchestrator/work/values.py": "bodies and values that an attempt takes, in its own process; a run's result",
    "orchestrator/work/planner.py": "the workflow's arguments, over a pipe from the leader, in the planner's process",
    "orchestrator/work/deferred.py": "calls that an attempt has deferred to its end, in a process of their own",
    "orchestrator/testing/adapter/bench.py": "the value of an attempt that a test of an adapter has made",
    "orchestrator/work/loader.py": "a workflow from a notebook, from its bundle, in planners and templates",
}
"""Who unpickles, and what."""

_UNPICKLES = {
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "cloudpickle") for name in ("load", "loads", "Unpickler")),
    *(f"orch.authoring.pickling.{name}" for name in ("loads", "Unpickler")),
    "marshal.loads", "marshal.load", "shelve.open",
}  # fmt: skip

RESULT_READERS = {"orchestrator/api.py": "the result of a run that has succeeded, for whoever asks for it"}


def test_only_these_modules_unpickle() -> None:
    found = {path for path, tree in modules() for _, name in mentions(tree) if name in _UNPICKLES}
    assert found == set(READERS)


def test_only_these_modules_read_results() -> None:
    found = {path for path, tree in modules() for _, name in mentions(tree) if name == "orch.values.load_result"}
    assert found == set(RESULT_READERS)


def test_nothing_evaluates_text() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, tree in modules()
        for line, name in mentions(tree)
        if name in ("eval", "exec")
    ]
    assert not found


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[object, ...]:
        return os.makedirs, (self.trace, 0o700, True)


def mined(store: Path, trace: Path) -> None:
    """Runs of which all that can be a pickle is a bomb: `good` has succeeded, `bad` has failed."""
    data = pickle.dumps(Bomb(trace), 5)
    bomb = ev.Blob(data=data, size=len(data))
    good: list[ev.Event] = [ev.Succeeded(job=2, attempt=1, value=bomb), ev.Ended(outcome="succeeded")]
    bad: list[ev.Event] = [ev.Failed(job=2, attempt=1, reason="FAILED", stderr=bomb), ev.Ended(outcome="failed")]
    for run, end in (("good", good), ("bad", bad)):
        events = [
            created(run),
            ev.Added(job=1, kind="one", name="one", body=bomb),
            ev.Added(job=2, kind="two", needs=[1], body=bomb),
            ev.Planned(count=2, value=bomb, refs=[2]),
            *started(1, run=run),
            ev.Annotated(job=1, attempt=1, name="note", value="x"),
            ev.Succeeded(job=1, attempt=1, value=bomb, stdout=bomb),
            *started(2, run=run),
            *end,
        ]
        write_run(store, run, events, close="ended")


LOOKS = [
    ["log verify", "bad"],
    ["log verify", "--files", "good"],
    ["log repair", "--dry-run", "bad"],
    ["log export", "good"],
    ["log export", "--format", "sqlite", "--output", "exported.sqlite", "bad"],
    ["list"],
    ["list", "--json"],
    ["status", "bad"],
    ["status", "good", "--json"],
    ["replay", "good"],
    ["replay", "bad", "--json"],
    ["replay", "bad", "--at", "6"],
    ["tail", "bad"],
    ["tail", "good", "--json"],
    ["why", "bad", "2"],
    ["why", "good", "2"],
    ["logs", "good", "1"],
    ["logs", "bad", "2"],
    ["logs", "--all", "--to", "logs", "bad"],
]


def test_looking_at_a_run_unpickles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "detonated"
    mined(tmp_path / "s", trace)
    for command in LOOKS:
        assert main([*command[0].split(), "--store", "s", *command[1:]]) == 0, command
        assert not trace.exists(), command
    assert {command[0].split()[0] for command in LOOKS} <= set(COMMANDS)


def test_a_result_is_unpickled_by_whoever_asks_for_it(tmp_path: Path) -> None:
    """The bombs are real ones: this is what the documentation warns of."""
    trace = tmp_path / "detonated"
    mined(tmp_path / "s", trace)
    assert main(["replay", "good", "--restart", "--store", str(tmp_path / "s")]) == 0
    assert trace.exists()


def test_a_look_does_not_even_import_what_unpickles(tmp_path: Path) -> None:
    """Whoever adds such an import thinks about it."""
    mined(tmp_path / "s", tmp_path / "detonated")
    script = (
        "import sys; from orch.cli.main import main; code = main(sys.argv[1:]);"
        "print('orch.authoring.pickling' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    for command in ("list", "status", "tail"):
        done = subprocess.run(
            [sys.executable, "-c", script, command, "--store", str(tmp_path / "s")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.strip() == "False", command


def test_the_environment_is_pickled_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads `os.environ` finds their own: what is in it is stored nowhere."""
    monkeypatch.setenv("A_SENTINEL", "sentinel-value")
    environment = os.environ

    def closure(other: object = os.environ) -> object:
        return environment, other

    for value in (os.environ, os.environb, closure, {"deep": [os.environ]}, os.environ.get, os.environ.items()):
        data, _ = dumps(value)
        assert b"sentinel-value" not in data
    assert loads(dumps(os.environ)[0], lambda *_: None) is os.environ
    assert loads(dumps([os.environb])[0], lambda *_: None)[0] is os.environb
