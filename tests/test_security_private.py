"""What a run makes is for its user only: whatever the umask, whoever the user, and whatever was there before."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support import jobs
from support.agents import Lab
from support.security import as_user, everything, open_to_others, start

from orch.agent import paths
from orch.agent.sockets import Doorkeeper
from orch.errors import AdapterError
from orch.leader.requests import make_request
from orch.store.file import FileStore
from orch.store.private import exposed, make_private

FLOW = Path(__file__).parent / "flows" / "secured.py"


async def until_there(path: Path) -> None:
    """Wait for a file by which a job says where it is."""
    with anyio.fail_after(60):
        while not path.exists():
            await anyio.sleep(0.01)  # the job has no other way to tell an outsider


# Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["root", "not root"])
@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_a_run_leaves_nothing_that_others_may_read(tmp_path: Path, umask: int, kind: str) -> None:
    as_user(kind)  # skips
    store, work, out = tmp_path / "new" / "store", tmp_path / "other" / "work", tmp_path / "out"
    where = ["--store", str(store), "--work-dir", str(work)]
    os.mkfifo(tmp_path / "go")
    orch = functools.partial(start, cwd=tmp_path, umask=umask, kind=kind, ORCH_AGENT_LINGER="0")
    with orch("run", "--run-id", "r", *where, FLOW, "--where", tmp_path) as first:
        await until_there(tmp_path / "waits")
        assert not open_to_others(store.parent, work.parent)
        assert any(path.is_socket() for path in everything(work))
        assert any("lent" in path.parts and path.name == "leaf" for path in everything(work))
        with orch("stop", "r", "--store", store) as stop:
            assert "Traceback" not in stop.communicate()[1]
        assert first.wait() == 130
        first.communicate()
    assert not open_to_others(store.parent, work.parent)
    (tmp_path / "waits").unlink()
    with orch("replay", "r", "--restart", *where, "--out", out) as second:
        await until_there(tmp_path / "waits")
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "go")
        said = second.communicate()
        assert second.returncode == 0, said
    assert not open_to_others(store.parent, work.parent)
    names = {path.name for path in everything(store)}
    assert {"orch.json", "lock", "journal", "agent.log", "runtime", "leaf", "1.1.value", "file"} <= names
    for path in everything(out):  # the user's own: as other programs would have made it
        asked = 0o777 if path.is_dir() or path.name == "file" else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == asked & ~umask, path


def test_a_wish_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_request(tmp_path, "r", "stop", 1, "me")
    finally:
        os.umask(before)
    assert not open_to_others(tmp_path / "requests")


def test_directories_above_are_private_too(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(str(tmp_path / "a" / "b" / "c"))
        make_private(str(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)
    assert not open_to_others(tmp_path / "a")


# What is there already --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "runs", "bundles"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_store_that_others_can_write_to_is_told(tmp_path: Path, below: str, mode: int) -> None:
    store = FileStore(tmp_path / "s")
    store.create()
    (store.root / below).mkdir(exist_ok=True)
    assert exposed(str(store.root)) == ""
    (store.root / below).chmod(mode)
    assert "can be written to by other users, who can thus run code as you: chmod go-w" in exposed(str(store.root))
    (store.root / below).chmod(0o755)  # names of directories, and nothing else
    assert exposed(str(store.root)) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_store_of_another_user_is_told(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    assert "belongs to another user (65534)" in exposed(str(tmp_path))


async def test_a_run_and_its_restart_warn_of_such_a_store(tmp_path: Path) -> None:
    store = tmp_path / "s"
    store.mkdir()
    store.chmod(0o777)
    (tmp_path / "wf.py").write_text(
        'import orch\n@orch.workflow\ndef main():\n    return orch.command(["false"])\n', encoding="utf-8"
    )
    for args in (["run", "--run-id", "r", "--store", "s", "wf.py"], ["replay", "r", "--restart", "--store", "s"]):
        with start(*args, cwd=tmp_path) as process:
            assert "can be written to by other users" in process.communicate()[1]


def runtime(tmp_path: Path, **environment: str) -> str:
    return paths.runtime_directory(str(tmp_path / "store"), "", environment)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory that all users share, and the name in it that everybody can guess."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    return shared / f"orch-{os.getuid()}"


def test_a_link_in_the_place_of_the_runtime_directory_is_refused(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    temporary.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdapterError, match="is not a directory"):
        runtime(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path: Path, temporary: Path) -> None:
    temporary.write_text("")
    with pytest.raises(AdapterError, match="cannot be used"):
        runtime(tmp_path)


def test_one_that_is_open_to_others_is_refused(tmp_path: Path, temporary: Path) -> None:
    temporary.mkdir()
    temporary.chmod(0o711)
    with pytest.raises(AdapterError, match="is open to other users: chmod 700"):
        runtime(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.usefixtures("temporary")
def test_one_of_another_user_is_refused(tmp_path: Path, level: int) -> None:
    found = Path(runtime(tmp_path))
    os.chown([found, found.parent, found.parent.parent][level], 65534, 65534)
    with pytest.raises(AdapterError, match="belongs to another user"):
        runtime(tmp_path)


def test_the_directory_of_a_host_is_made_private(tmp_path: Path, temporary: Path) -> None:
    found = Path(runtime(tmp_path))
    found.parent.chmod(0o777)
    runtime(tmp_path)
    assert not open_to_others(temporary)


def test_a_work_directory_that_all_can_write_to_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    with pytest.raises(AdapterError, match="can be written to by all users"):
        runtime(tmp_path, ORCH_WORK_DIR=str(work))
    work.chmod(0o1777)
    assert runtime(tmp_path, ORCH_WORK_DIR=str(work)).startswith(str(work))


# The socket -------------------------------------------------------------------------------------------------------


def listening(directory: Path) -> socket.socket:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return paths.listen(str(directory))


def test_an_agent_is_looked_for_in_directories_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own"
    with listening(own):
        found = paths.connect(str(own))
        assert found is not None
        found.close()
        (tmp_path / "link").symlink_to(own)
        assert paths.connect(str(tmp_path / "link")) is None
        own.chmod(0o777)
        with pytest.raises(AdapterError, match="open to other users"):
            paths.connect(str(own))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_an_agent_in_a_directory_of_another_user_gets_nothing(tmp_path: Path) -> None:
    """The name of a runtime directory in the store is old: a reboot empties /tmp, and who is first makes it anew."""
    directory = tmp_path / "theirs"
    with listening(directory):
        os.chown(directory, 65534, 65534)
        assert paths.connect(str(directory)) is None


def test_an_agent_of_another_user_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(tmp_path / "d"):
        monkeypatch.setattr(paths, "peer_user", lambda _: os.getuid() + 1)
        assert paths.connect(str(tmp_path / "d")) is None


class OneTurn:
    """A loop of which only `add` is used."""

    callback: Callable[[int], None]

    def add(self, _descriptor: int, callback: Callable[[int], None]) -> None:
        self.callback = callback


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_agent_hangs_up_on_another_user(tmp_path: Path) -> None:
    """Directories keep them away; were they not there, the kernel's word on who has connected would."""
    accepted: list[socket.socket] = []
    with listening(tmp_path / "d") as door:
        loop = OneTurn()
        Doorkeeper(loop, door, accepted.append)  # type: ignore[arg-type]
        for user in (65534, 0):
            end = _connected_as(user, tmp_path / "d")
            loop.callback(1)
            if user:
                assert not accepted
                assert end.recv(1) == b""
            end.close()
    assert len(accepted) == 1
    accepted[0].close()


def _connected_as(user: int, directory: Path) -> socket.socket:
    """A connection to the socket in a directory, which lets everybody in for that; the kernel notes who comes."""
    directory.chmod(0o711)
    (directory / paths.SOCKET).chmod(0o666)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.chdir(directory):
        os.seteuid(user)
        try:
            end.connect(paths.SOCKET)
        finally:
            os.seteuid(0)
    return end


async def test_sockets_and_journals_of_an_agent_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        lab = Lab(tmp_path)
        view = await lab.open()
        await view.run_one(view.python(jobs.pid))
        assert not open_to_others(Path(lab.runtime), lab.store.root)
        await lab.close()
    finally:
        os.umask(before)
