"""Hosts over real sshds: cut off, killed, without the leader's store, with another login environment."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import abroad, abroad_marks
from support import command
from support.netns import Hosts
from support.runs import run

import orch
from orch.bus import events as ev
from orch.bus.reader import read
from orch.testing.adapter import AdapterContract, Rig

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def hosts(place: Path) -> Iterator[Hosts]:
    """Three."""
    found = Hosts(place / "hosts", 3)
    with found.running():
        yield found


@pytest.fixture
def folder(place: Path) -> Path:
    """Which all hosts see, and all users may write to."""
    found = Path(tempfile.mkdtemp(prefix="seen-", dir=place))
    found.chmod(0o777)
    return found


def settings(hosts: Hosts, names: str, **more: str) -> dict[str, object]:
    given = {"ssh-hosts": names, "ssh-config": str(hosts.config), **more}
    return {"options": given}


async def test_a_cut_is_no_failure_and_what_a_dead_host_had_runs_elsewhere(
    hosts: Hosts, tmp_path: Path, folder: Path
) -> None:
    async def trouble() -> None:
        while len(list(folder.iterdir())) < 30:
            await asyncio.sleep(0.05)
        hosts.cut(1)
        hosts.kill(3)
        hosts.cut(3)
        cut.append(time.monotonic())
        await asyncio.sleep(20)
        hosts.mend(1)

    cut: list[float] = []
    making = asyncio.create_task(trouble())
    ran = await run(
        tmp_path / "store",
        abroad_marks.slow_marks,
        adapter="ssh",
        timeout=200,
        folder=str(folder),
        count=100,
        settings=settings(hosts, "h1:2,h2:2,h3:2", **{"ssh-lost-after": "40s"}),
    )
    await making
    assert ran.error is None, ran.error
    assert sorted(ran.value) == list(range(100))
    ends = ran.all(ev.Retrying) + ran.all(ev.Failed)
    assert {each.reason for each in ends} <= {"LOST"}
    again = Counter(path.name.split(".")[0] for path in folder.iterdir())
    on_dead = {path.name.split(".")[0] for path in folder.iterdir() if "orch-h3" in path.name}
    assert {name for name, count in again.items() if count > 1} <= on_dead
    said = [each.message for each in ran.all(ev.Warned)]
    assert any("host h1" in each for each in said)
    assert any("h1 is back" in each for each in said)
    assert any("h3 could not be reached" in each for each in said)


async def test_what_a_leader_left_behind_is_adopted(hosts: Hosts, tmp_path: Path, folder: Path) -> None:
    options = ["--ssh-hosts", "h1:2,h2:2", "--ssh-config", str(hosts.config)]
    with command.running(
        "run", "--store", tmp_path / "store", "--run-id", "adopted", "--adapter", "ssh", *options,
        Path(abroad_marks.__file__), "--folder", folder, "--count", "40", cwd=tmp_path,
    ) as process:  # fmt: skip
        while len(list(folder.iterdir())) < 12:
            await asyncio.sleep(0.05)
            assert process.poll() is None, process.communicate()
        process.kill()
        process.wait()
    done = command.orch("replay", "adopted", "--restart", "--store", tmp_path / "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == list(range(40))
    assert len(list(folder.iterdir())) == 40  # each file's name says which job, attempt and host
    events = list(read(command.log_directory(tmp_path / "store", "adopted")))
    assert not [each for each in events if isinstance(each, ev.Retrying | ev.Failed)]


async def test_a_host_that_does_not_see_the_store_gets_what_it_needs_and_gives_what_it_made(
    hosts: Hosts, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    ran = await run(store, abroad.files, adapter="ssh", settings=settings(hosts, "h1:2,h2:2"))
    assert ran.error is None, ran.error
    here = await run(store, abroad.files)
    assert ran.value == here.value
    out = tmp_path / "out"
    done = command.orch("files", ran.run, "--store", store, "--fetch", "*", "--to", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"plain", "leaf", "given"} <= {path.read_text() for path in out.rglob("*") if path.is_file()}


async def test_the_environment_is_the_leaders_and_home_is_the_hosts(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ÜBER", "here")
    monkeypatch.setenv("OF_THE_LEADER", 'with "quotes" and a\nnew line')
    monkeypatch.setenv("MY_SECRET_TOKEN", "hidden")
    for name, home in (("r1", "/root"), ("h1", "/home/orchtest")):
        ran = await run(tmp_path / "store", abroad.variables, adapter="ssh", settings=settings(hosts, f"{name}:1"))
        assert ran.error is None, ran.error
        found = ran.value
        assert found["OF_THE_LEADER"] == os.environ["OF_THE_LEADER"]
        assert found["HOME"] == home
        assert "MY_SECRET_TOKEN" not in found
        assert "LOGIN_ONLY" not in found
        assert found["LANG"] == os.environ.get("LANG", found["LANG"])


async def test_the_same_words_are_counted(hosts: Hosts, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.py").write_text("to be or not to be")
    (text / "b.py").write_text("that is the question")
    results = []
    for options in (["--adapter", "ssh", "--ssh-hosts", "r1:1,r2:1", "--ssh-config", str(hosts.config)], []):
        done = command.orch(
            "run", "--store", tmp_path / "store", *options, EXAMPLES / "wordcount.py", "--root", str(text), cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]


async def test_an_unknown_key_is_refused_with_the_command_that_helps(hosts: Hosts, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text("")
    given = settings(hosts, "h1:1", **{"ssh-known-hosts": str(known)})
    with pytest.raises(orch.AdapterError, match="h1: its key is not known") as unknown:
        await run(tmp_path / "store", abroad.variables, adapter="ssh", settings=given)
    assert f"ssh -F {hosts.config} -o UserKnownHostsFile={known} h1" in str(unknown.value)
    other = (hosts.directory / "h2" / "host_ed25519.pub").read_text().split()[:2]
    known.write_text(f"[10.203.0.11]:2222 {' '.join(other)}\n")
    with pytest.raises(orch.AdapterError, match="its key is not the one in") as changed:
        await run(tmp_path / "store", abroad.variables, adapter="ssh", settings=given)
    assert f"ssh-keygen -f {known} -R '[10.203.0.11]:2222'" in str(changed.value)


class SshRig(Rig):
    """Hosts that see the store, with a leader of the same user."""

    cannot = dict.fromkeys(
        ("cancel_outside", "forget", "down", "slow", "nonsense", "strange", "twice", "lose_answer", "refuse", "hold",
         "preempt", "start_again"),
        "there is no batch system between: agents are asked, and speak orch's own language",
    ) | {"lose_node": "its host is gone for all tests then; one test here kills a host"}  # fmt: skip
    names = "r1:2"
    patience = 60.0

    def __init__(self, root: Path, hosts: Hosts) -> None:
        super().__init__(root)
        self.options = {"ssh-hosts": self.names, "ssh-config": str(hosts.config)}

    def adapter(self) -> orch.adapters.contract.Adapter:
        from orch.adapters.registry import make_adapter

        return make_adapter("ssh")

    def left(self) -> list[str]:
        return []


class TestSharedStore(AdapterContract):
    """The store is seen."""

    @pytest.fixture
    def rig(self, tmp_path: Path, hosts: Hosts) -> Rig:
        return SshRig(tmp_path, hosts)


class TestMirror(AdapterContract):
    """The store is not seen."""

    @pytest.fixture
    def rig(self, tmp_path: Path, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Rig:
        async def blind(*_: object) -> bool:
            return False

        monkeypatch.setattr("orch.adapters.ssh.hosts.SshHost._sees", blind)
        return SshRig(tmp_path, hosts)
