"""Values of the environment reach attempts and nothing else: not the log, the store, argv, or what is shown."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest
from support.command import orch
from support.security import everything, start

from orch.adapters.contract import RunInfo
from orch.agent import protocol
from orch.agent.protocol import Hello
from orch.authoring.commands import command
from orch.environment import abroad, inherited
from orch.work.framing import Load

FLOW = Path(__file__).parent / "flows" / "secretive.py"
NAMES = ("AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "DB_PASSWORD", "PLAIN_SETTING", "NAMED")


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables of this environment, each with a value that is nowhere else."""
    found = {name: f"sentinel{os.urandom(9).hex()}" for name in NAMES}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def forms(value: str) -> Iterator[bytes]:
    """What to look for: the value, and what it is inside of base64, wherever it begins there."""
    yield value.encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + value.encode())
        yield text[-(-shift * 4 // 3) : len(text) // 4 * 4 - 4]


def leaks(values: dict[str, str], *texts: str, roots: list[Path]) -> list[str]:
    """Where the values can be read: in files and their names, in command lines of processes, in texts."""
    wanted = re.compile(b"|".join(re.escape(form) for value in values.values() for form in forms(value)))
    found = [str(path) for root in roots for path in everything(root) if wanted.search(_data(path))]
    found += [str(path) for path in Path("/proc").glob("[0-9]*/cmdline") if wanted.search(_data(path))]
    return found + [text for text in texts if wanted.search(text.encode())]


def _data(path: Path) -> bytes:
    name = os.fsencode(path)
    try:
        return name + (path.read_bytes() if path.is_file() else b"")
    except OSError:  # a process, or scratch file, that is no more
        return name


def test_the_search_finds_what_is_hidden(tmp_path: Path, values: dict[str, str]) -> None:
    for shift in range(3):
        hidden = base64.b64encode(b"x" * shift + values["NAMED"].encode() + b"yz")
        (tmp_path / "file").write_bytes(hidden)
        assert leaks(values, roots=[tmp_path]) == [str(tmp_path / "file")]


async def test_values_of_the_environment_stay_in_it(tmp_path: Path, values: dict[str, str]) -> None:
    os.mkfifo(tmp_path / "go")
    where = ["--store", "s", "--work-dir", "w", "--set-env", "NAMED", "--log-level", "debug"]
    options = [*where, "--log-file", "log.json"]
    said: list[str] = []
    begun = start("run", "--run-id", "r", *options, FLOW, "--where", tmp_path, cwd=tmp_path)
    with begun as run, anyio.fail_after(90):
        while not (tmp_path / "waits").exists():
            assert not leaks(values, roots=[]), "in a command line"
            await anyio.sleep(0.01)
        assert not leaks(values, roots=[tmp_path])
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "go")
        said += await anyio.to_thread.run_sync(run.communicate)
    assert said[0].strip() == '[true, [true, true, 0, [0, true], true, "second"]]', said
    bad = orch("run", "--run-id", "bad", *options, FLOW, "--where", tmp_path, "--bad", cwd=tmp_path)
    assert bad.returncode == 1, bad.stderr
    again = orch("replay", "bad", "--restart", *options, cwd=tmp_path)
    wrong = orch("run", *options, FLOW, "--where", tmp_path, "--wrong", cwd=tmp_path)
    assert wrong.returncode == 2
    said += [text for done in (bad, again, wrong) for text in (done.stdout, done.stderr)]
    looks = [["status", "bad"], ["replay", "r", "--json"], ["tail", "r", "--json"], ["tail", "bad"], ["list", "--json"]]
    for look in [*looks, *(["why", "bad", str(job)] for job in range(1, 5)), ["logs", "--all", "--to", "logs", "bad"]]:
        done = orch(*look, "--store", "s", "--log-level", "debug", cwd=tmp_path)
        said += [done.stdout, done.stderr]
    assert not leaks(values, *said, roots=[tmp_path])
    assert any("THERE_IS_NO_SUCH_VARIABLE" in text for text in said)


def test_what_a_job_tells_is_told(tmp_path: Path, values: dict[str, str]) -> None:
    """Its own doing; and it shows that the search looks in the right places."""
    done = orch("run", "--store", "s", FLOW, "--where", tmp_path, "--tell", cwd=tmp_path)
    assert values["MY_TOKEN"] in done.stdout
    assert any("events.jsonl" in found for found in leaks(values, roots=[tmp_path]))


def test_a_run_does_not_see_the_environment_of_another(tmp_path: Path) -> None:
    """The agent that the first has started serves the second too."""
    (tmp_path / "wf.py").write_text(
        "import os, orch\n"
        "@orch.job(isolation='pool')\ndef pooled(): return os.environ.get('MY_TOKEN')\n"
        "@orch.job\ndef forked(): return os.environ.get('MY_TOKEN')\n"
        "@orch.workflow\ndef main():\n"
        "    printed = orch.command(['sh', '-c', 'echo $MY_TOKEN'])['stdout']\n"
        "    return [forked(), pooled(), printed]\n",
        encoding="utf-8",
    )
    first = orch("run", "--store", "s", "wf.py", cwd=tmp_path, MY_TOKEN="one", ORCH_AGENT_LINGER="60")
    second = orch("run", "--store", "s", "wf.py", cwd=tmp_path, ORCH_AGENT_LINGER="60")
    assert first.stdout == '["one", "one", "one\\n"]\n'
    assert second.stdout == '[null, null, "\\n"]\n'
    home = next((tmp_path / "s" / "agents").iterdir())
    assert (home / "agent.log").stat().st_size == 0  # it was not begun twice for want of life


# Messages ---------------------------------------------------------------------------------------------------------


def test_messages_with_an_environment_do_not_show_it() -> None:
    info = RunInfo(run="r", epoch=1, store="/s", environment={"MY_TOKEN": "sentinel", "SEEN": "sentinel"})
    for message in (info, Hello(info, "/w"), Load("/b", info.environment, "/")):
        for shown in (repr(message), str(message), f"{message}", repr([message])):
            assert "sentinel" not in shown
            assert "2 variables" in shown


def test_no_other_message_has_an_environment() -> None:
    """A new one that does gets a `__repr__`, and a line above."""
    from orch.agent import inside
    from orch.attempt import Attempt, CommandSpec
    from orch.work import framing

    known = {RunInfo, Load}
    known |= {
        CommandSpec,
        Attempt,
    }  # what `orch.command(env=…)` was given, and is in the log; which devices it was given
    for module in (inside, protocol, framing):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in known:
                assert not {"environment", "env", "environ"} & set(kind.__struct_fields__), kind


@pytest.mark.parametrize("value", ["", "plain", "ä日\U0001f600", os.fsdecode(b"\xff\xc3\xa4"), "a\nb"])
def test_an_environment_is_the_same_after_it_has_travelled(value: str) -> None:
    info = RunInfo(run="r", epoch=1, store="/s", environment={"X": value, value or "Y": "z"})
    heard = protocol.from_leader(protocol.frame(Hello.of(info, "/w"))[4:])
    assert isinstance(heard, Hello)
    assert heard.said() == info


# Programs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """What the run's attempts inherit."""
    inherited.update({"PATH": "/bin", "LANG": "C", "MY_TOKEN": "sentinel", "SEEN": "sentinel", "HOME": "/"})
    yield dict(inherited)
    inherited.clear()


def recorded(env: dict[str, str]) -> bytes:
    body: bytes = command(["true"], env=env)._call.body
    return body


def test_an_environment_given_as_a_whole_is_inherited(environment: dict[str, str]) -> None:
    body = recorded({**environment, "MORE": "1", "LANG": "de"})
    assert b"sentinel" not in body
    assert msgspec.json.decode(body)["env"] == {"MORE": "1", "LANG": "de"}


def test_a_secret_that_is_inherited_is_not_recorded(environment: dict[str, str]) -> None:
    assert b"sentinel" not in recorded({"MY_TOKEN": environment["MY_TOKEN"], "X": "1"})


def test_what_is_not_inherited_is_recorded(environment: dict[str, str]) -> None:
    env = {"MY_TOKEN": "another", "LANG": "C"}
    assert msgspec.json.decode(recorded(env))["env"] == env
    assert environment["LANG"] == "C"


# Other hosts ------------------------------------------------------------------------------------------------------

SECRETS = [
    *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "MY_TOKEN", "github_token", "DB_PASSWORD"),
    *("PGPASSWORD", "MYSQL_PWD_PASSWD", "Api_Key", "SSHKEY", "CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("DB_PASS", "PASSPHRASE"),
]
HERE = [
    *("HOME", "USER", "TMPDIR", "PWD", "HOSTNAME", "SSH_AUTH_SOCK", "SSH_CONNECTION", "DISPLAY", "XDG_RUNTIME_DIR"),
    *("DBUS_SESSION_BUS_ADDRESS", "SLURM_JOB_ID", "PBS_JOBID", "TERM", "KRB5CCNAME", "CUDA_VISIBLE_DEVICES", "_"),
    *("ORCH_ATTEMPT", "ORCH_WORK_DIR", "BASH_FUNC_module%%", "KUBERNETES_SERVICE_HOST"),
]
EVERYWHERE = [
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "OMP_NUM_THREADS",
    "VIRTUAL_ENV",
    "HOMES",
]


@pytest.mark.parametrize("name", [*SECRETS, *HERE])
def test_what_stays_here(name: str) -> None:
    assert abroad({name: "x"}) == {}
    assert abroad({name: "x"}, [name]) == {name: "x"}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_travels(name: str) -> None:
    assert abroad({name: "x", "MY_TOKEN": "y"}) == {name: "x"}


def test_adapters_for_other_hosts_get_what_travels_and_what_was_named() -> None:
    given = {"PATH": "/bin", "MY_TOKEN": "x", "OTHER_TOKEN": "y", "HOME": "/root"}
    info = RunInfo(run="r", epoch=1, store="/s", environment=given, named=["MY_TOKEN"])
    assert info.environment_abroad() == {"PATH": "/bin", "MY_TOKEN": "x"}
    assert info.environment == given


def test_the_names_given_by_set_env_reach_the_adapter() -> None:
    from orch.leader.opening import run_info
    from orch.leader.settings import make_settings
    from orch.store.file import FileStore

    settings = make_settings(max_log=1, set_env=["MY_TOKEN"])
    info = run_info("r", 1, FileStore("/s"), settings, {"MY_TOKEN": "x"})
    assert info.environment_abroad() == {"MY_TOKEN": "x"}
