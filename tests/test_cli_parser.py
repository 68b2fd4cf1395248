"""The command line: what is understood, what is refused and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orch.cli.main import COMMANDS, main
from orch.cli.parser import Parser, UsageError, common_options
from orch.cli.settings import environment, pairs


def parser() -> Parser:
    made = Parser("orch x")
    common_options(made)
    made.option("--quiet", "-q", action="store_true")
    made.option("-m", dest="module")
    return made


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["wf.py", "--n", "3"], 0),
        (["--store", "s", "wf.py", "--store", "t"], 2),
        (["--store=s", "-q", "wf.py"], 2),
        (["-q", "--", "-odd.py"], 1),
        (["--store", "s"], 2),
        (["--unknown", "x", "wf.py"], 1),
        (["-q", "-m", "pkg.mod", "--n", "3"], 3),
        (["-mpkg.mod", "-q"], 1),
        (["-m"], 1),
    ],
)
def test_own_options_end_at_the_workflow(arguments: list[str], count: int) -> None:
    assert parser().split(arguments, last="-m") == count


def test_an_option_that_is_not_known_brings_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no option --stroe \(did you mean --store\?\)"):
        parser().read(["--stroe", "x"])


def test_options_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="no option --qui"):
        parser().read(["--qui"])


def test_one_argument_too_many() -> None:
    with pytest.raises(UsageError, match="'extra' is one argument too many"):
        parser().read(["extra"])


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
        (["statsu"], "orch has no command 'statsu' (did you mean status?)"),
        (["xyzzy"], "orch has no command 'xyzzy'; see: orch --help"),
        (["--store", "x", "list"], "the command comes first"),
        (["run"], "name a workflow"),
        (["run", "--cores", "none", "wf.py"], "--cores: invalid"),
        (["run", "--cores", "0", "wf.py"], "--cores: invalid"),
        (["run", "--retries", "-1", "wf.py"], "--retries: "),
        (["run", "--memory", "lots", "wf.py"], "'lots' is not a size"),
        (["run", "--max-log-size", "1X", "wf.py"], "'1X' is not a size"),
        (["run", "--durability", "never", "wf.py"], "--durability: invalid choice"),
        (["run", "--tag", "x", "wf.py"], "is not K=V"),
        (["run", "--set-env", "ORCH_TEST_NOT", "wf.py"], "is not set here"),
        (["run", "--out", "s3://bucket/x", "wf.py"], "only a directory or a file: URL"),
        (["run", "--store", "s3://bucket/x", "wf.py"], "pip install 'orch[s3]'"),
        (["run", "--store", "gopher:x", "wf.py"], "no store for gopher:"),
        (["tail", "--from", "0"], "--from: invalid number value: '0'"),
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
