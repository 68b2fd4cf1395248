"""The agent's parts by themselves, without processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orch.agent import packets, processes, protocol
from orch.agent.captures import Captures
from orch.agent.journal import Accepted, Acknowledged, Begun, Ended, Journal
from orch.agent.scratch import Scratch
from orch.agent.storage import StoredFile
from orch.agent.tags import NAME, WIDTH, tag_of
from orch.attempt import Outcome, Reason
from orch.bus.events import EMPTY, Blob
from orch.store.file import FileStore

# Journal ---------------------------------------------------------------------------------------------------------


def _outcome(key: str) -> Outcome:
    return Outcome(key=key, reason=Reason.FINISHED, value=Blob(data=b"v" * 50, size=50), message="ü")


def _journal(path: Path) -> Journal:
    return Journal(StoredFile(str(path), str(path.parent)), "boot", 7)


def _filled(path: Path) -> bytes:
    journal = _journal(path)
    journal.stage(Accepted("run", 3, ["a", "b", "c"]))
    journal.stage(Begun("a", 17, 2.5))
    journal.write()
    journal.stage(Ended(_outcome("b")))
    journal.stage(Acknowledged(["c"]))
    journal.write(sync=True)
    journal.close()
    return path.read_bytes()


def test_a_journal_says_what_is_outstanding(tmp_path: Path) -> None:
    _filled(tmp_path / "journal")
    journal = _journal(tmp_path / "journal")
    assert journal.boot == "boot"
    assert set(journal.outstanding) == {"a", "b"}
    assert (journal.outstanding["a"].pid, journal.outstanding["a"].since) == (17, 2.5)
    assert journal.outstanding["a"].outcome is None
    assert journal.outstanding["b"].outcome == _outcome("b")
    assert journal.outstanding["b"].epoch == 3
    journal.close()


def test_a_journal_that_was_cut_anywhere_opens_and_can_be_written_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = _filled(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        journal = _journal(path)
        assert set(journal.outstanding) <= {"a", "b", "c"}
        journal.stage(Accepted("run", 4, ["later"]))
        journal.write()
        journal.close()
        again = _journal(path)
        assert "later" in again.outstanding
        again.close()


def test_a_flipped_byte_ends_a_journal_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = _filled(path)
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        journal = _journal(path)
        assert set(journal.outstanding) <= {"a", "b", "c"}
        journal.close()


def test_a_journal_with_nothing_outstanding_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    _filled(path)
    journal = _journal(path)
    journal.settle()
    assert path.stat().st_size > 0
    journal.stage(Acknowledged(["a", "b"]))
    journal.write()
    journal.settle()
    journal.write()
    assert path.stat().st_size < 100
    journal.close()


def test_a_long_journal_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orch.agent.journal.BOUND", 2000)
    path = tmp_path / "journal"
    journal = _journal(path)
    journal.stage(Accepted("run", 1, ["kept", "open"]))
    journal.stage(Begun("open", 5, 1.0))
    journal.stage(Ended(_outcome("kept")))
    for number in range(500):
        key = f"key{number}"
        journal.stage(Accepted("run", 1, [key]))
        journal.stage(Ended(_outcome(key)))
        journal.stage(Acknowledged([key]))
        journal.write()
        assert path.stat().st_size < 4000
    journal.close()
    again = _journal(path)
    assert set(again.outstanding) == {"kept", "open"}
    assert again.outstanding["kept"].outcome == _outcome("kept")
    assert again.outstanding["open"].pid == 5
    again.close()


def test_what_a_full_disk_did_not_take_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = _journal(path)
    journal.stage(Accepted("run", 1, ["a"]))
    real = os.write

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.write()
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:10]))  # and then a little at a time
    journal.stage(Ended(_outcome("a")))
    journal.write()
    monkeypatch.undo()
    journal.close()
    again = _journal(path)
    assert again.outstanding["a"].outcome == _outcome("a")
    again.close()


def test_after_a_failed_sync_the_journal_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second sync of the same file would succeed, whatever has become of the bytes (fsync(2), ERRORS)."""
    path = tmp_path / "journal"
    journal = _journal(path)
    journal.stage(Accepted("run", 1, ["a"]))

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.write(sync=True)
    doubtful = path.stat().st_ino
    journal.stage(Ended(_outcome("a")))
    journal.write()
    assert path.stat().st_ino != doubtful
    journal.stage(Accepted("run", 1, ["b"]))
    journal.write()
    journal.close()
    again = _journal(path)
    assert again.outstanding["a"].outcome == _outcome("a")
    assert "b" in again.outstanding
    again.close()


def test_a_journal_that_cannot_be_written_anew_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    storage = StoredFile(str(path), str(tmp_path))
    assert storage.append(b"before") == 6
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: os.stat(tmp_path / "nothing there"))
        with pytest.raises(FileNotFoundError):
            storage.replace(b"anew")
    assert storage.append(b", after") == 7
    assert storage.load() == b"before, after"
    storage.replace(b"anew")
    assert storage.append(b", after") == 7
    storage.close()
    assert path.read_bytes() == b"anew, after"


def test_the_name_of_a_journal_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of the directories that were made for it: else a power cut takes the synced file away."""
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{file}"), tmp_path))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "store/agents/host").mkdir(parents=True)
    path = str(tmp_path / "store/agents/host/journal")
    storage = StoredFile(path, str(tmp_path / "store"))
    assert synced == ["store/agents/host", "store/agents", "store"]
    synced.clear()
    storage.replace(b"anew")
    assert synced == ["store/agents/host/journal.new", "store/agents/host"]
    storage.close()
    synced.clear()
    StoredFile(path, str(tmp_path / "store")).close()
    assert synced == []


# Captures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def captures(tmp_path: Path) -> Iterator[Captures]:
    found = Captures(str(tmp_path))
    yield found
    found.close()


def test_little_output_is_inline_and_files_are_used_again(captures: Captures, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    capture = captures.take(1000)
    os.write(capture.out.file, b"hello")
    assert capture.out.blob(store, "runs/r/out") == Blob(data=b"hello", size=5)
    assert capture.err.blob(store, "runs/r/err") is EMPTY
    captures.give_back(capture)
    again = captures.take(1000)
    assert again is capture
    assert again.read() == (b"", b"")
    captures.give_back(again)


@pytest.mark.parametrize("holes", [True, False])
def test_a_long_stream_keeps_head_and_tail(
    captures: Captures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, holes: bool
) -> None:
    if not holes:

        def refuse(*_: Any) -> None:
            raise OSError(errno.EOPNOTSUPP, "not on this file system")

        monkeypatch.setattr("orch.agent.captures.punch_hole", refuse)
    FileStore(tmp_path / "store").create()
    capture = captures.take(100_000)
    os.write(capture.out.file, b"head")
    for _ in range(50):
        os.write(capture.out.file, b"x" * 100_000)
        capture.bound()
        assert os.fstat(capture.out.file).st_blocks * 512 < 300_000
    os.write(capture.out.file, b"y" * 50_000 + b"tail")
    blob = capture.out.blob(FileStore(tmp_path / "store"), "runs/r/out")
    text = FileStore(tmp_path / "store").read_bytes(blob.file)
    assert text.startswith(b"head")
    assert text.endswith(b"tail")
    assert blob.cut == 5_050_008 - 100_000
    assert f"[orch: {blob.cut} bytes left out here]".encode() in text
    captures.give_back(capture)


def test_a_stream_a_little_longer_than_its_limit_is_cut_as_well(captures: Captures) -> None:
    capture = captures.take(1000)
    os.write(capture.out.file, b"a" * 600 + b"b" * 600)
    capture.bound()
    text, cut = capture.out.read()
    assert cut == 200
    assert text == b"a" * 500 + b"\n[orch: 200 bytes left out here]\n" + b"b" * 500
    captures.give_back(capture)


# Packets, frames, marks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, packets.LIMIT, packets.LIMIT + 1, 5_000_000])
def test_a_packet_of_any_length_with_a_descriptor(length: int, tmp_path: Path) -> None:
    ours, theirs = packets.pair()
    with ours, theirs, (tmp_path / "file").open("w") as file:
        data = os.urandom(length)
        packets.send(ours, data, (file.fileno(),))
        found = packets.receive(theirs)
        assert found is not None
        assert found[0] == data
        os.write(found[1][0], b"through the copy")
        os.close(found[1][0])
        ours.close()
        assert packets.receive(theirs) is None
    assert (tmp_path / "file").read_text() == "through the copy"


def test_what_finds_no_room_waits_in_order() -> None:
    ours, theirs = packets.pair()
    with ours, theirs:
        ours.settimeout(0)
        sender = packets.Sender(ours)
        messages = [bytes([number]) * 50_000 for number in range(50)]
        for message in messages:
            sender.send(message)
        assert sender.waiting
        for message in messages:
            found = packets.receive(theirs)
            assert found is not None
            assert found[0] == message
            sender.flush()
        assert not sender.waiting


def test_frames_come_together_from_any_pieces() -> None:
    messages: list[protocol.FromLeader] = [
        protocol.Cancel(["a"] * number) for number in range(20)
    ]  # fmt: skip
    stream = b"".join(protocol.frame(message) for message in messages)
    for size in (1, 3, 100, len(stream)):
        frames = protocol.Frames()
        found: list[protocol.FromLeader] = []
        for at in range(0, len(stream), size):
            found += [protocol.from_leader(each) for each in frames.feed(stream[at : at + size])]
        assert found == messages


def test_a_mark_is_never_wider_than_its_place() -> None:
    assert tag_of("agent", "run.1.1") == "agent:run.1.1"
    long = [tag_of("agent", f"{'ü' * 300}.{number}") for number in range(2)]
    assert long[0] != long[1]
    assert all(len(each.encode()) <= WIDTH for each in long)


# Scratch ---------------------------------------------------------------------------------------------------------


def test_a_scratch_directory_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    place = Path(scratch.path("x"))
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "c").write_text("")
    (place / "a" / "b").chmod(0)
    scratch.remove(str(place))
    scratch.remove(str(place))
    assert not place.exists()
    for pid in list(scratch.helpers):
        _, status = os.waitpid(pid, 0)
        assert scratch.child_ended(pid, status)
    assert os.listdir(tmp_path / "trash") == []


def test_a_command_gets_the_directory_of_an_earlier_one_only_if_nothing_was_done_to_it(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    place = scratch.lend()
    assert scratch.take_back(place)
    assert not scratch.take_back(place)
    assert scratch.lend() == place
    Path(place, "left").touch()
    assert not scratch.take_back(place)
    scratch.remove(place)
    place = scratch.lend()
    Path(place).chmod(0o755)
    assert not scratch.take_back(place)
    scratch.remove(place)
    place = scratch.lend()
    assert scratch.take_back(place)
    Path(place, "late").touch()
    other = scratch.lend()
    assert other != place
    assert os.listdir(other) == []
    for pid in list(scratch.helpers):
        scratch.child_ended(*os.waitpid(pid, 0))
    assert os.listdir(tmp_path / "lent") == [Path(other).name]


def test_what_an_earlier_agent_left_is_removed(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    Path(scratch.path("old")).mkdir()
    Path(scratch.lend(), "old").touch()
    (tmp_path / "trash" / "1.1").mkdir()
    scratch.remove_all()
    for pid in list(scratch.helpers):
        scratch.child_ended(*os.waitpid(pid, 0))
    assert [os.listdir(tmp_path / name) for name in ("scratch", "trash", "lent")] == [[], [], []]


# Processes -------------------------------------------------------------------------------------------------------


def test_a_process_is_killed_by_pid_only_if_it_started_then() -> None:
    with subprocess.Popen(["sleep", "3600"], env={}) as process:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert not processes.kill_if_started_about(process.pid, now - 100)
        assert not processes.kill_if_started_about(process.pid, now + 100)
        assert process.poll() is None
        assert processes.kill_if_started_about(process.pid, now)
        assert process.wait() == -signal.SIGKILL
    assert not processes.kill_if_started_about(process.pid, now)


def test_all_that_bear_a_mark_are_ended_and_waited_for() -> None:
    mark = f"test-{os.getpid()}:"
    started = [subprocess.Popen(["sleep", "3600"], env={NAME: f"{mark}{number}"}) for number in range(3)]
    other = subprocess.Popen(["sleep", "3600"], env={NAME: "another:1"})
    assert processes.end_marked(mark) == []
    for process in started:
        assert process.wait() == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()
