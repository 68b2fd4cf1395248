"""Settings: where they come from, which one counts, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from orch.api import Orchestrator
from orch.cli import settings as to
from orch.cli.main import main
from orch.cli.parser import application, call, command
from orch.cli.set import LIMITS
from orch.cli.usage import UsageError
from orch.config import DEFAULT, NAMED, SETTINGS, Setting, find_settings, find_store, near_misses
from orch.errors import UserError
from orch.hints import store_option
from orch.leader.requests import SET, make_request, read_requests
from orch.leader.settings import (
    ADJUSTABLE,
    CHECKS,
    Choices,
    Limits,
    Settings,
    from_log,
    make_limits,
    make_settings,
    to_log,
)
from orch.store.file import FileStore

app = application()
seen: list[to.Given] = []


@command(app, "x", "[OPTIONS]")
@to.with_settings(*to.OPTIONS)
def x(*, given: to.Given) -> int:
    """Remembers what it was given."""
    seen.append(given)
    return 0


def given(*arguments: str) -> dict[str, Any]:
    """Keywords for `Orchestrator`, from a command line."""
    call(app, "x", arguments)
    return to.keywords(seen.pop())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, `p/below`, with neither files nor variables; the user's files are below `c`."""
    for name in [name for name in os.environ if name.startswith("ORCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    (tmp_path / "c" / "orch").mkdir(parents=True)
    (tmp_path / "p" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "p" / "below")
    return tmp_path


# One table -------------------------------------------------------------------------------------------------------


def test_every_setting_is_everywhere() -> None:
    fields = set(Settings.__struct_fields__)
    assert set(CHECKS) == fields
    assert {*Choices.__annotations__, "adapter", "set_env"} == fields
    named = {setting.keyword for setting in SETTINGS} - {""}
    # --out is of one command; the seconds go with the share; adapters' own settings have a table of their own.
    assert named == fields - {"out", "chaos_seconds", "options"}


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.default and each.keyword], ids=lambda s: s.name)
def test_the_default_that_is_told_is_the_one_that_counts(setting: Any) -> None:
    for keyword, value in setting.parse(setting.default).items():
        assert value == getattr(Settings(), keyword)


def test_what_can_be_adjusted_is_a_setting() -> None:
    assert {setting.keyword for setting in LIMITS} == set(Limits.__annotations__) == set(ADJUSTABLE)


def test_the_documentation_has_the_same_table() -> None:
    text = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [_row(setting) for setting in SETTINGS]


def _row(setting: Setting) -> str:
    form = f"`{setting.name}`" + (f" {setting.metavar.replace('|', '&')}" if setting.metavar else "")
    keyword = {"store": "`store`", "chaos": "`chaos`, `chaos_seconds`"}.get(setting.name, f"`{setting.keyword}`")
    default = {"true": "yes", "false": "no", "": ""}.get(setting.default, f"`{setting.default}`")
    return f"| {form} | {keyword} | {default} | {setting.help} |".replace("&", "\\|")


def test_the_file_in_the_documentation_can_be_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    (place / "p" / "orch.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = to.keywords(to.everywhere({}))
    assert (found["max_jobs"], found["memory"], found["default_walltime"]) == (50, 64 << 30, 7200.0)
    assert (found["chaining"], found["set_env"]) == (False, {"OMP_NUM_THREADS": "2", "LANG": "C.UTF-8"})
    assert find_store() == str(place / "p" / "runs")


# Which one counts ------------------------------------------------------------------------------------------------


def test_the_later_place_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, project = place / "c" / "orch" / "config.toml", place / "p" / "orch.toml"
    assert find_settings()["max-jobs"] == ("unlimited", DEFAULT)
    user.write_text("max-jobs = 1\nretries = 1\nadapter = 'a'\n")
    assert find_settings()["max-jobs"] == ("1", str(user))
    project.write_text("max_jobs = 2\nretries = 2\n")
    assert find_settings()["max-jobs"] == ("2", str(project))
    monkeypatch.setenv("ORCH_MAX_JOBS", "3")
    found = to.keywords(to.everywhere({"retries": {"retries": 4}}))
    assert found == {"max_jobs": 3, "retries": 4, "adapter": "a"}


def test_the_nearest_project_counts_alone(place: Path) -> None:
    (place / "p" / "orch.toml").write_text("retries = 1\nmax-jobs = 1\n")
    (place / "p" / "below" / "orch.toml").write_text("retries = 2\n")
    found = find_settings()
    assert (found["retries"].text, found["max-jobs"].text) == ("2", "unlimited")


def test_what_a_stranger_has_put_there_does_not_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "p" / "orch.toml").write_text("retries = 1\n")
    if os.getuid() == 0:  # what root has put there is not a stranger's
        os.chown(place / "p" / "orch.toml", 54321, -1)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    (place / "p").chmod(0o775)
    assert find_settings()["retries"].text == "1"
    (place / "p").chmod(0o1777)
    assert find_settings()["retries"].text == "0"


def test_a_path_in_a_file_begins_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "p" / "orch.toml").write_text("store = 'runs'\nwork-dir = '/scratch'\n")
    assert find_store() == str(place / "p" / "runs")
    assert find_settings()["work-dir"].text == "/scratch"
    assert store_option(FileStore(place / "p" / "runs")) == ""
    assert store_option(FileStore(place / "p" / "others")) == f" --store {place / 'p' / 'others'}"
    monkeypatch.setenv("ORCH_STORE", "here")
    assert find_store() == "here"
    (place / "p" / "orch.toml").write_text("store = 'file:/runs'\n")
    monkeypatch.delenv("ORCH_STORE")
    assert find_store() == "file:/runs"


def test_commands_find_the_store_of_the_project(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "p" / "orch.toml").write_text("store = 'runs'\n")
    assert main(["list"]) == 2
    assert f"there is no store at {place / 'p' / 'runs'}" in capsys.readouterr().err
    assert main(["list", "--store", "other"]) == 2
    assert f"there is no store at {place / 'p' / 'below' / 'other'}" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_MAX_JOBS", "")
    monkeypatch.setenv("ORCH_STORE", "")
    assert find_settings()["max-jobs"].source == DEFAULT
    assert find_store() == ".orch"


def test_the_work_directory_of_a_shell_is_not_recorded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever carries the run on, on another host, has another one."""
    (place / "p" / "orch.toml").write_text("work-dir = 'w'\n")
    assert to.keywords(to.everywhere({})) == {"work_dir": str(place / "p" / "w")}
    monkeypatch.setenv("ORCH_WORK_DIR", str(place))
    assert to.keywords(to.everywhere({})) == {}


def test_variables_of_jobs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_TEST_A", "1")
    (place / "p" / "orch.toml").write_text("set-env = ['ORCH_TEST_A']\n")
    assert to.keywords(to.everywhere({})) == {"set_env": {"ORCH_TEST_A": "1"}}
    both = to.everywhere({"set-env": {"set_env": {"B": "2"}}})
    assert to.keywords(both) == {"set_env": {"ORCH_TEST_A": "1", "B": "2"}}
    monkeypatch.delenv("ORCH_TEST_A")
    with pytest.raises(UsageError, match=r"orch\.toml ORCH_TEST_A: the variable is not set here"):
        to.everywhere({})
    assert find_store() == ".orch"  # commands that start nothing do not mind


# Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("--max-cores 2 --max-memory 1GiB --max-disk unlimited", {"cores": 2.0, "memory": 1 << 30, "disk": 0}),
        ("--cores 2 --memory 1K", {"cores": 2.0, "memory": 1024}),
        ("--max-lost unlimited --retry-backoff 1m", {"max_lost": -1, "retry_backoff": 60.0}),
        ("--max-lost 0", {"max_lost": 0}),
        ("--no-chaining --cache", {"chaining": False, "cache": "all"}),
        ("--chaining --no-cache", {"chaining": True, "cache": "off"}),
        ("--chaos 0.3", {"chaos": 0.3}),
        ("--chaos 0.3:10", {"chaos": 0.3, "chaos_seconds": 10.0}),
        ("--default-preemptible --default-cores 0.5", {"default_preemptible": True, "default_cores": 0.5}),
        ("--stop-on-first-failure --clean on-success", {"first_failure": True, "clean": "on-success"}),
        ("--no-deploy --set-env A=1 --set-env B=2", {"deploy": False, "set_env": {"A": "1", "B": "2"}}),
    ],
)
def test_options(arguments: str, expected: dict[str, Any]) -> None:
    found = given(*arguments.split())
    assert found == expected
    make_settings(**found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--max-jobs 0", "--max-jobs: '0' is not a whole number from 1 on, or unlimited"),
        ("--max-memory 0", "--max-memory/--memory: '0' is not a size above 0, or unlimited"),
        ("--chaos 2", "--chaos: '2' is not a share between 0 and 1"),
        ("--chaos 0.1:x", "--chaos: 'x' is not a duration"),
        ("--clean sometimes", "--clean: invalid choice: 'sometimes' (choose from always, on-success, on-error, never)"),
        ("--no-chainin", "orch x has no option --no-chainin (did you mean --no-chaining?)"),
        ("--retry-backoff soon", "--retry-backoff: 'soon' is not a duration"),
        (f"--max-jobs {10**30}", "--max-jobs: that is too much: it can be 2147483647 at most, or unlimited"),
        (f"--max-local-jobs {2**31}", "--max-local-jobs: that is too much"),
        (f"--retries {10**23}", "--retries: that is too much: it can be 2147483647 at most"),
        (f"--max-lost {10**30}", "--max-lost: that is too much"),
        ("--max-cores 1e300", "--max-cores/--cores: that is too much"),
    ],
)
def test_options_that_cannot_be_read(arguments: str, message: str) -> None:
    with pytest.raises(UsageError) as told:
        given(*arguments.split())
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retries = 1\nmax-job = 3\n", "line 2: there is no setting 'max-job' (did you mean max-jobs?)"),
        ("\n\nretries = -1\n", "line 3: retries: '-1' is not a whole number from 0 on"),
        ("max-memory = 'lots'", "line 1: max-memory: 'lots' is not a size"),
        ("retries = 1.5", "line 1: retries: '1.5' is not a whole number"),
        ("retries = [1]", "line 1: retries is neither text, nor a number"),
        ("[max-jobs]\nx = 1\n", "line 1: max-jobs is a table, and there are none here"),
        ("retries = 1\n[run]\nmax-jobs = 1\n", "line 2: run is a table, and there are none here: write all settings"),
        ("[[run]]\nmax-jobs = 1\n", "line 1: run is a table"),
        ("cores = 1", "line 1: there is no setting 'cores' (did you mean max-cores?)"),
        ("max-jobs = 1\nmax_jobs = 1\n", "line 2: max-jobs is there twice"),
        ("set-env = ['TOKEN=hunter2']", "line 1: set-env: TOKEN=… has a value, and only names can be set here"),
        ("\nmax-jobs = x\n", "cannot be read: Invalid value (at line 2, column 12)"),
        ("max-jobs = \xff", "cannot be read: "),
    ],
)
def test_files_that_cannot_be_read(place: Path, text: str, message: str) -> None:
    file = place / "p" / "orch.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as told:
        find_settings()
    assert message in str(told.value)
    assert str(file) in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.usefixtures("place")
def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_MAX_CORES", "many")
    with pytest.raises(UserError, match=r"\$ORCH_MAX_CORES: 'many' is not a number above 0"):
        find_settings()


def test_in_process_has_an_adapter_of_its_own() -> None:
    assert to.keywords(to.in_process({})) == {"adapter": "inprocess", "deploy": False}
    with pytest.raises(UsageError, match="give no --adapter"):
        to.in_process({"adapter": {"adapter": "local"}})
    with pytest.raises(UsageError, match="give no --deploy"):
        to.in_process({"deploy": {"deploy": True}})


# The API ---------------------------------------------------------------------------------------------------------


def test_the_api_takes_what_it_is_given(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "p" / "orch.toml").write_text("max-jobs = 2\n")
    monkeypatch.setenv("ORCH_RETRIES", "3")
    found = Orchestrator("s", disk="1 GiB")._settings
    assert found == Settings(disk=1 << 30)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retris": 1}, "there is no setting 'retris' \\(did you mean retries\\?\\)"),
        ({"retries": True}, "retries: True is not a whole number from 0 on"),
        ({"cores": -1}, "cores: -1 is not a number above 0, or unlimited"),
        ({"max_jobs": 1.5}, "max_jobs: 1.5 is not a whole number from 1 on"),
        ({"durability": "maybe"}, "durability: invalid choice: 'maybe'"),
        ({"retry_backoff": -1}, "retry_backoff: -1 is not a duration"),
        ({"chaos": float("nan")}, "chaos: nan is not a share"),
        ({"work_dir": 3}, "work_dir: 3 is not a path"),
    ],
)
def test_what_the_api_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Orchestrator("s", **settings)


def test_settings_survive_the_log() -> None:
    found = make_settings(cores="1.5", memory="1G", max_lost="unlimited", cache=True, default_walltime="1h", out="o")
    assert (found.max_lost, found.cache, found.default_walltime) == (-1, "all", 3600.0)
    assert from_log(json.loads(json.dumps(to_log(found)))) == found
    assert found.override(cores="unlimited", memory=None).cores == 0
    assert found.override(cores="unlimited", memory=None).memory == 1 << 30


def test_limits_are_changed_by_a_wish(tmp_path: Path) -> None:
    limits = make_limits(max_jobs="5", cores="unlimited")
    make_request(tmp_path, "r", SET, 1, "me", limits)
    assert [(each.what, each.settings) for each in read_requests(tmp_path)] == [(SET, {"max_jobs": 5, "cores": 0})]
    with pytest.raises(UserError, match="retries cannot be changed while a run goes on"):
        make_limits(retries=3)


# orch config -----------------------------------------------------------------------------------------------------


def test_each_setting_is_printed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "p" / "orch.toml").write_text("max-memory = '1GiB'\n")
    monkeypatch.setenv("ORCH_CHAOS", "0.1:2")
    assert main(["config"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == list(NAMED)
    assert ["max-memory", "1GiB", str(place / "p" / "orch.toml")] in lines
    assert ["work-dir", "-", "default"] in lines
    assert main(["config", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(NAMED)
    assert found["max-memory"] == {"value": 1 << 30, "source": str(place / "p" / "orch.toml")}
    assert found["chaos"] == {"value": "0.1:2", "source": "$ORCH_CHAOS"}
    assert found["deploy"] == {"value": True, "source": DEFAULT}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", ["max-memory", "max_memory"])
def test_one_setting_is_printed(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["config", name]) == 0
    assert capsys.readouterr().out == "unlimited\n"
    assert main(["config", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"max-memory": {"value": 0, "source": DEFAULT}}


@pytest.mark.usefixtures("place")
def test_a_setting_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "max-memry"]) == 2
    assert "there is no setting 'max-memry' (did you mean max-memory?)" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_nothing_to_set_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set", "r"]) == 2
    assert "orch set: say what to change: --max-cores" in capsys.readouterr().err
    assert main(["set", "r", "--max-core", "1"]) == 2
    assert "orch set has no option --max-core (did you mean" in capsys.readouterr().err


def test_options_are_grouped_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    panels = dict.fromkeys(each.panel for each in to.OPTIONS)
    assert headings == ["Options:", *(f"{panel}:" for panel in panels), "Of batch systems:"]
    for setting in to.OPTIONS:
        assert f"--{setting.name}" in text


def test_the_options_have_types() -> None:
    """What the library reads them from."""
    hints = get_type_hints(x, include_extras=True)
    assert all(
        isinstance(hints[setting.name.replace("-", "_")].__metadata__[0], typer.models.OptionInfo)
        for setting in to.OPTIONS
    )


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("typed", "meant"), [("yes", "all"), ("true", "all"), ("no", "off"), ("marked", "marked")])
def test_what_a_setting_means_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.setenv("ORCH_CACHE", typed)
    assert main(["config", "cache"]) == 0
    assert capsys.readouterr().out == f"{meant}\n"
    assert main(["config"]) == 0
    assert ["cache", meant, "$ORCH_CACHE"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("name", "meant"),
    [("ORCH_MAX_JBOS", "ORCH_MAX_JOBS"), ("ORCH_WORKDIR", "ORCH_WORK_DIR"), ("ORCH_CORES", "ORCH_MAX_CORES")],
)
def test_variables_that_are_nearly_settings_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "3")
    assert main(["config", "max-jobs"]) == 0
    told = capsys.readouterr()
    assert told.out == "unlimited\n"
    assert told.err == f"orch: warning: ${name} is no setting, and has no effect: did you mean ${meant}?\n"
    to.everywhere({})
    assert meant in capsys.readouterr().err


def test_other_variables_are_none_of_ours() -> None:
    ours = ("ORCH_ACCELERATORS", "ORCH_ACCELERATORS_GIVEN", "ORCH_AGENT_LINGER", "ORCH_AGENT_PATIENCE", "ORCH_ATTEMPT")
    assert near_misses(dict.fromkeys((*ours, *(each.variable for each in SETTINGS), "HOME", "MAX_JBOS"), "1")) == []


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("option", ["--retries=3", "--no-chaining"])
def test_what_cannot_be_changed_meanwhile_is_told(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["set", option]) == 2
    told = capsys.readouterr().err
    name = option.removeprefix("--").removeprefix("no-").partition("=")[0]
    assert f"{name} cannot be changed while a run goes on; these can: --max-cores, " in told
