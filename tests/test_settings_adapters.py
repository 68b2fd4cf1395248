"""The settings that adapters have of their own: where they may be given, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from orch.adapters.settings import OURS
from orch.cli import run as run_module
from orch.cli import settings as to
from orch.cli.adapters import of_adapters_given
from orch.cli.main import main
from orch.config import find_settings
from orch.errors import UserError
from orch.leader.settings import Settings, make_settings


def test_the_help_shows_the_settings_of_the_adapter_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["run", "--adapter", "slurm"], ["run", "--adapter=slurm"], ["replay", "--adapter", "slurm"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        text = capsys.readouterr().out
        assert "Of the adapter slurm:" in text
        assert all(f"--{option.name}" in text for option in OURS["slurm"])


def test_settings_of_adapters_come_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("orch.toml").write_text('adapter = "fake"\nbatch-max-queued = 3\nbatch-strict = true\n')
    monkeypatch.setenv("ORCH_BATCH_OVERHEAD", "1 GiB")
    found = find_settings()
    assert found["batch-max-queued"].text == "3"
    assert found["batch-overhead"].source == "$ORCH_BATCH_OVERHEAD"
    assert main(["config", "batch-strict"]) == 0
    assert capsys.readouterr().out == "true\n"
    assert main(["config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["batch-max-queued"] == {"value": "3", "source": str(tmp_path / "orch.toml")}
    assert shown["fake-cluster"] == {"value": None, "source": "default"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--batch-max-queued", "0"], "batch-max-queued: '0' is not a whole number"),
        (["--batch-max-queued"], "--batch-max-queued: 'flow.py' is not a whole number"),
        (["--batch-max-queue", "3"], "did you mean --batch-max-queued?"),
        (["--no-batch-max-queued"], "has no option --no-batch-max-queued"),
    ],
)
def test_mistakes_in_options_of_adapters(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--adapter", "slurm", *words, "flow.py"]) == 2
    assert complaint in capsys.readouterr().err


def test_options_of_adapters_reach_the_run_and_those_of_the_workflow_stay() -> None:
    context = (
        typer.main.get_group(run_module.app)
        .commands["run"]
        .make_context("orch run", ["--batch-max-queued=3", "--no-probe", "flow.py", "--batch-max-queued", "9"])
    )
    assert list(context.params["tokens"]) == ["flow.py", "--batch-max-queued", "9"]
    given = to.keywords(of_adapters_given(context))
    assert given == {"options": {"batch-max-queued": "3", "batch-probe": "false"}}


def test_an_orchestrator_checks_them() -> None:
    assert Settings() == make_settings(options={})
    assert make_settings(options={"batch-strict": True}).options == {"batch-strict": "true"}
    with pytest.raises(UserError, match=r"no adapter has a setting 'slurm-q'"):
        make_settings(options={"slurm-q": "x"})
    kept = make_settings(options={"batch-strict": True}).override(options={"batch-max-queued": "3"})
    assert kept.options == {"batch-strict": "true", "batch-max-queued": "3"}
