"""The command line: what is understood, what is refused and how."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from support.command import tagged

from orch.cli.early import wants_planner
from orch.cli.main import COMMANDS, main
from orch.cli.parser import STORE, Command, Store, application, call, command, natural, words
from orch.cli.settings import environment, pairs
from orch.cli.usage import UsageError

app = application()
seen: list[dict[str, object]] = []


class Own(Command):
    ends_with = "-m"


@command(app, "x", "[OPTIONS] …", cls=Own, allow_interspersed_args=False)
def x(
    tokens: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    store: Store = STORE,
    module: Annotated[str | None, typer.Option("-m")] = None,
    number: Annotated[int | None, typer.Option("--number", "-n", parser=natural)] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag")] = None,
    size: Annotated[str, typer.Option("--size", **words(("big", "small")))] = "big",
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False,
) -> int:
    """Remembers what it was given."""
    seen.append(
        {"store": store, "m": module, "n": number, "tag": tag, "size": size, "quiet": quiet, "rest": tokens or []}
    )
    return 7


@command(app, "y", "[OPTIONS] NAME")
def y(
    name: Annotated[str, typer.Argument(metavar="NAME")], *, quiet: Annotated[bool, typer.Option("-q")] = False
) -> int:
    """Takes options anywhere, and one name."""
    seen.append({"name": name, "quiet": quiet})
    return 0


def given(*arguments: str) -> dict[str, object]:
    """What `x` is given, other than its defaults."""
    assert call(app, "x", arguments) == 7
    defaults: dict[str, object] = {
        "store": STORE,
        "m": None,
        "n": None,
        "tag": None,
        "size": "big",
        "quiet": False,
        "rest": [],
    }
    return {name: value for name, value in seen.pop().items() if value != defaults[name]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("wf.py --n 3", {"rest": ["wf.py", "--n", "3"]}),
        ("--store s wf.py --store t", {"store": "s", "rest": ["wf.py", "--store", "t"]}),
        ("--store=s -q wf.py", {"store": "s", "quiet": True, "rest": ["wf.py"]}),
        ("-q -- -odd.py -- -x", {"quiet": True, "rest": ["-odd.py", "--", "-x"]}),
        ("wf.py -- -m x", {"rest": ["wf.py", "--", "-m", "x"]}),
        ("--store s", {"store": "s"}),
        ("-q -m pkg.mod --n 3 -q", {"quiet": True, "m": "pkg.mod", "rest": ["--n", "3", "-q"]}),
        ("-qm pkg.mod -q", {"quiet": True, "m": "pkg.mod", "rest": ["-q"]}),
        ("-mpkg.mod -q", {"m": "pkg.mod", "rest": ["-q"]}),
        ("-m pkg.mod -- -q", {"m": "pkg.mod", "rest": ["--", "-q"]}),
        ("-n3 --tag -m wf.py -m x", {"n": 3, "tag": ["-m"], "rest": ["wf.py", "-m", "x"]}),
        ("--tag a=1 --tag b= --size small", {"tag": ["a=1", "b="], "size": "small"}),
    ],
)
def test_own_options_end_at_the_workflow(arguments: str, expected: dict[str, object]) -> None:
    assert given(*arguments.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--stroe x", "orch x has no option --stroe (did you mean --store?); see: orch x --help"),
        ("--stroe=x", "orch x has no option --stroe (did you mean --store?); see: orch x --help"),
        ("--zzz", "orch x has no option --zzz; see: orch x --help"),
        ("--qui", "orch x has no option --qui (did you mean --quiet?); see: orch x --help"),
        ("-qz", "orch x has no option -z"),
        ("--number", "orch x: option '--number' requires an argument; see: orch x --help"),
        ("-m", "orch x: option '-m' requires an argument"),
        ("--number none", "orch x: --number/-n: 'none' is not a whole number from 1 on; see: orch x --help"),
        ("--number 0", "'0' is not a whole number from 1 on"),
        ("--quiet=1", "orch x: option '--quiet' does not take a value"),
        ("--size huge", "orch x: --size: invalid choice: 'huge' (choose from big, small); see: orch x --help"),
    ],
)
def test_what_cannot_be_read_is_told(arguments: str, message: str) -> None:
    with pytest.raises(UsageError) as told:
        given(*arguments.split())
    assert message in str(told.value)


def test_options_may_stand_behind_a_name_and_only_one_name_is_taken() -> None:
    assert call(app, "y", ["n", "-q"]) == 0
    assert seen.pop() == {"name": "n", "quiet": True}
    with pytest.raises(UsageError, match="orch y: 'extra' is one argument too many"):
        call(app, "y", ["n", "extra"])
    with pytest.raises(UsageError, match="orch y: NAME is required"):
        call(app, "y", [])


def test_errors_of_a_command_are_not_the_librarys_to_handle() -> None:
    own = application()

    @command(own, "z", "")
    def z(what: Annotated[str, typer.Argument()]) -> int:
        """Raises."""
        raise {"pipe": BrokenPipeError(32, "x"), "key": KeyboardInterrupt(), "end": EOFError()}[what]

    for what, error in (("pipe", BrokenPipeError), ("key", KeyboardInterrupt), ("end", EOFError)):
        with pytest.raises(error):
            call(own, "z", [what])


def test_values_need_no_pydantic() -> None:
    """Its import takes longer than all the rest of a short command."""
    code = (
        "import sys\nfrom orch.cli.main import main\nassert main(['list', '--limit', '3', '--store', '/no']) == 2\n"
        "heavy = {'pydantic', 'rich', 'anyio', 'asyncio', 'structlog'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("run wf.py", True),
        ("run --cores 3 wf.py --help", True),
        ("run -m pkg.mod", True),
        ("run -mpkg.mod", True),
        ("run", False),
        ("run --help", False),
        ("run nowhere.py", False),
        ("replay wf.py", False),
        ("--version", False),
        ("", False),
    ],
)
def test_a_planner_is_started_early_if_it_looks_like_a_run(
    arguments: str, wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wf.py").touch()
    assert wants_planner(arguments.split()) is wanted


def test_a_planner_that_nobody_wants_leaves_without_a_word(tmp_path: Path) -> None:
    """The pipe's end is inherited by nobody: it closes when the last process that had it is gone."""
    (tmp_path / "wf.py").touch()
    mark = f"ORCH_TEST_MARK={tmp_path}"
    done = subprocess.run(
        [sys.executable, "-m", "orch.cli.main", "run", "--cores", "none", "wf.py"],
        cwd=tmp_path,
        env={**os.environ, "ORCH_TEST_MARK": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for left in tagged(mark):
        with contextlib.suppress(ProcessLookupError):
            assert select.select([os.pidfd_open(left)], [], [], 30)[0], "a planner is left behind"


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_TEST_HERE", "from here")
    assert environment(["ORCH_TEST_HERE", "B=x=y", "C="]) == {"ORCH_TEST_HERE": "from here", "B": "x=y", "C": ""}
    with pytest.raises(UsageError, match="ORCH_TEST_NOT: the variable is not set here"):
        environment(["ORCH_TEST_NOT"])
    with pytest.raises(UsageError, match="names no variable"):
        environment(["=x"])


def test_tags() -> None:
    assert pairs(["a=1", "b="], "--tag") == {"a": "1", "b": ""}
    with pytest.raises(UsageError, match="--tag 'a' is not K=V"):
        pairs(["a"], "--tag")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_prints_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert "exit codes" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: orch {command}")
    assert "--store" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("orch 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statuss"], "orch has no command 'statuss' (did you mean status?)"),
        (["xyzzy"], "orch has no command 'xyzzy'; see: orch --help"),
        (["--store", "x", "list"], "the command comes first"),
        (["run"], "name a workflow"),
        (["run", "--cores", "none", "wf.py"], "--cores: 'none' is not a number above 0"),
        (["run", "--cores", "0", "wf.py"], "--cores: '0' is not a number above 0"),
        (["run", "--retries", "-1", "wf.py"], "--retries: "),
        (["run", "--memory", "lots", "wf.py"], "'lots' is not a size"),
        (["run", "--max-log-size", "1X", "wf.py"], "'1X' is not a size"),
        (["run", "--durability", "never", "wf.py"], "--durability: invalid choice"),
        (["run", "--tag", "x", "wf.py"], "is not K=V"),
        (["run", "--set-env", "ORCH_TEST_NOT", "wf.py"], "is not set here"),
        (["run", "--out", "s3://bucket/x", "wf.py"], "only a directory or a file: URL"),
        (["run", "--store", "s3://bucket/x", "wf.py"], "pip install 'orch[s3]'"),
        (["run", "--store", "gopher:x", "wf.py"], "no store for gopher:"),
        (["tail", "--from", "0"], "--from: '0' is not a whole number from 1 on"),
        (["replay", "--at", "0"], "--at: '0' is not a whole number from 1 on"),
        (["run", "--retries", "-1", "wf.py"], "--retries: '-1' is not a whole number from 0 on"),
        (["run", "--set-env", "A B", "wf.py"], "--set-env 'A B' names no variable, 'A B' cannot be one"),
        (["status", "a", "b"], "'b' is one argument too many"),
        (["logs"], "name a job"),
        (["logs", "a", "b", "c"], "name a job"),
        (["logs", "--all"], "say where to: --to DIR"),
        (["logs", "--gzip", "3"], "go with --all"),
        (["why"], "required"),
        (["replay", "--out", "x"], "--out means something with --restart only"),
        (["replay", "--restart", "--json"], "give no --at or --json"),
    ],
)
def test_what_is_wrong_is_said_and_is_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".orch").mkdir()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.err.count("\n") == 1
    assert not any((tmp_path / ".orch").iterdir())


def test_the_store_comes_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCH_STORE", str(tmp_path / "elsewhere"))
    assert main(["list"]) == 2
    assert str(tmp_path / "elsewhere") in capsys.readouterr().err


def test_little_is_imported() -> None:
    """The version, and the help of a command, must not cost the import of what they do not use."""
    code = (
        "import sys\nfrom orch.cli.main import main\nmain(['--version'])\n"
        "heavy = {'anyio', 'asyncio', 'rich', 'structlog', 'typer', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
