"""Hosts over ssh, with a server in this process: how one gets there, files, cuts. tests/real has real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from flows import abroad
from support import jobs
from support.agents import Lab, Signal, View
from support.runs import run
from support.sshd import Sshd

from orch.adapters.contract import RunInfo, Said
from orch.adapters.ssh import boot
from orch.adapters.ssh.line import Line
from orch.adapters.ssh.names import Name
from orch.adapters.ssh.options import SshOptions
from orch.adapters.ssh.pool import SshAdapter
from orch.attempt import Reason
from orch.errors import AdapterError
from orch.store import layout


class There:
    """A leader's store, a host, and sessions."""

    def __init__(self, root: Path) -> None:
        self.sshd = Sshd(root / "there")
        self.lab = Lab(root / "here")
        self.adapters: list[SshAdapter] = []
        self.views: list[View] = []

    def info(self, epoch: int = 1, **options: str) -> RunInfo:
        given = {"ssh-hosts": "there:2", "ssh-config": str(self.sshd.config), "ssh-work-dir": str(self.sshd.root / "w")}
        return self.lab.info("run", epoch, options={**given, **options})

    async def open(self, epoch: int = 1, options: dict[str, str] | None = None, *, find: bool = True) -> View:
        adapter = SshAdapter()
        self.adapters.append(adapter)
        view = View(self.lab, await adapter.open(self.info(epoch, **(options or {}))), "run")
        self.views.append(view)
        if find:
            await view.session.find([])
        return view

    def mirror(self) -> Path:
        (found,) = (self.sshd.root / "w" / "mirrors").iterdir()
        return found

    async def close(self) -> None:
        for view in self.views:
            await view.close()
        for adapter in self.adapters:
            await adapter.close()


@pytest.fixture
async def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[There]:
    monkeypatch.setenv("ORCH_AGENT_LINGER", "0")
    found = There(tmp_path)
    found.sshd.environment["ORCH_AGENT_LINGER"] = "0"
    async with found.sshd.running():
        yield found
        await found.close()


async def test_nothing_need_be_there_but_python(there: There) -> None:
    there.sshd.noise = b"Welcome to this host!\n\0or not\n"
    view = await there.open()
    outcome = await view.run_one(view.shell("echo $HOME; echo ${LOGIN_ONLY-none}"))
    assert view.result(outcome).stdout == f"{there.sshd.home}\nnone\n"
    assert (there.sshd.home / ".cache" / "orch" / "code").is_dir()
    assert view.value(await view.run_one(view.python(jobs.add, 1, 2))) == 3


async def test_what_is_left_behind_is_here_before_its_end_is_told(there: There) -> None:
    view = await there.open()
    outcome = await view.run_one(view.shell("head -c 200000 /dev/zero | tr '\\0' x"))
    assert outcome.value.file
    assert len(view.result(outcome).stdout) == 200_000
    assert (there.mirror() / outcome.value.file).exists()
    await view.close()
    there.views.clear()
    assert not (there.mirror() / layout.run_dir("run")).exists()  # all of it was told


async def test_a_cut_is_no_failure(there: There, tmp_path: Path) -> None:
    view = await there.open()
    held, said = Signal(tmp_path / "held"), Signal(tmp_path / "said")
    attempt = view.shell(f"echo . > {said.path}; read x < {held.path}; echo ran > {said.path}")
    await view.submit(attempt)
    await said.wait(2)
    there.sshd.cut()
    await view.until(lambda each: isinstance(each, Said))
    Path(held.path).write_bytes(b"go\n")
    assert await said.wait(4) == b"ran\n"
    there.sshd.mend()
    assert (await view.outcome(attempt)).reason is Reason.FINISHED


async def test_the_next_leader_adopts(there: There, tmp_path: Path) -> None:
    first = await there.open()
    held, said = Signal(tmp_path / "held"), Signal(tmp_path / "said")
    attempt = first.shell(f"echo . > {said.path}; read x < {held.path}")
    await first.submit(attempt)
    await said.wait(2)
    await first.started(attempt)
    await there.close()
    there.views.clear()
    second = await there.open(2, find=False)
    await second.session.find([attempt.key], 1)
    Path(held.path).write_bytes(b"go\n")
    assert (await second.outcome(attempt)).reason is Reason.FINISHED


async def test_files_and_what_they_refer_to_travel(there: There, tmp_path: Path) -> None:
    options = there.info().options
    ran = await run(tmp_path / "store", abroad.files, adapter="ssh", settings={"options": options})
    assert ran.error is None, ran.error
    assert ran.value[1]["large"] == 200_000
    assert ran.value[0] == {"large": 10, "plain": "plain", "program": "ran\n", "tree": "leaf", "given": "given"}


async def test_a_file_that_is_not_there_is_an_error_that_says_so(there: There) -> None:
    view = await there.open()
    outcome = await view.run_one(view.python(abroad.read_nothing))
    assert outcome.reason is not Reason.FINISHED
    assert "cannot be had" in outcome.message


async def test_nothing_but_what_jobs_have_stored_is_given(there: There) -> None:
    view = await there.open()
    outcome = await view.run_one(view.python(abroad.read_nothing, "runs/run/log/000001.events.jsonl"))
    assert "nothing that a job has stored" in outcome.message


async def test_one_connection_for_many_runs(there: There) -> None:
    adapter = SshAdapter()
    there.adapters.append(adapter)
    for number in range(12):  # more than the sessions that sshd allows on a connection
        info = there.lab.info(f"run{number}", options=there.info().options)
        view = View(there.lab, await adapter.open(info), f"run{number}")
        there.views.append(view)
        await view.session.find([])
    for view in there.views:
        assert (await view.run_one(view.shell("true"))).reason is Reason.FINISHED
    assert there.sshd.commands == 1


async def test_a_host_under_two_names_is_used_once(there: There) -> None:
    view = await there.open(options={"ssh-hosts": "there:1,there2:2"})
    said = await view.until(lambda each: isinstance(each, Said))
    assert isinstance(said, Said)
    assert "it is the same host as there" in said.text
    assert (await view.run_one(view.shell("true"))).reason is Reason.FINISHED


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ssh-python": "/nowhere/python"}, "/nowhere/python is not a Python of 3.11"),
        ({"ssh-hosts": "127.0.0.1"}, "127.0.0.1: "),
    ],
)
async def test_why_there_is_no_host(there: There, options: dict[str, str], why: str) -> None:
    with pytest.raises(AdapterError, match=why):
        await there.open(options=options)


async def test_an_unknown_key(there: There) -> None:
    there.sshd.known_hosts.write_text("")
    with pytest.raises(AdapterError, match="its key is not known"):
        await there.open()


async def test_a_changed_key(there: There, tmp_path: Path) -> None:
    other = Sshd(tmp_path / "other")
    public = other._key.export_public_key().decode().split()[:2]
    there.sshd.known_hosts.write_text(f"[127.0.0.1]:{there.sshd.port} {' '.join(public)}\n")
    with pytest.raises(AdapterError, match="its key is not the one in") as error:
        await there.open()
    assert f"ssh-keygen -f {there.sshd.known_hosts} -R '[127.0.0.1]:{there.sshd.port}'" in str(error.value)


async def test_a_key_that_is_not_let_in(there: There, tmp_path: Path) -> None:
    other = Sshd(tmp_path / "other")
    other._user.write_private_key(other.key)
    there.sshd.config.write_text(there.sshd.config.read_text().replace(str(there.sshd.key), str(other.key)))
    with pytest.raises(AdapterError, match="it does not let us in"):
        await there.open()


def test_a_python_that_is_not_alike_is_told_what_to_install() -> None:
    code = boot.Code(("a", "b"), (b"", b""), ["cpython-311", "linux-x86_64", "glibc"])
    found = boot.Reply(
        ["cpython-313", "linux-aarch64", "glibc"], "3.13.1", "/usr/bin/python3", ["msgspec"], [False] * 2
    )
    with pytest.raises(ValueError, match="/usr/bin/python3 -m pip install msgspec"):
        boot.answer(found, code)


async def test_a_line_that_is_cut_tells_who_waits(there: There) -> None:
    async def code() -> boot.Code:
        return await asyncio.to_thread(boot.make_code)

    line = Line(Name("there"), SshOptions((), (str(there.sshd.config),)), code)
    facts = await line.ready()
    assert facts.environment["HOME"] == str(there.sshd.home)
    waiting = asyncio.create_task(line.ask("sees", "/dev/null", "x"))
    await asyncio.sleep(0)
    there.sshd.cut()
    with pytest.raises(AdapterError, match="the connection is cut"):
        await waiting
    there.sshd.mend()
    assert (await line.ready()).host == facts.host
    await line.close()
