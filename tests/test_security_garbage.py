"""Garbage, on the agent's socket and among the store's requests, harms nobody."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.agents import PATIENCE, Lab, Signal
from support.command import log_directory, orch, running, until

from orch.agent import paths, protocol
from orch.agent.connections import LONGEST_HELLO, Connection
from orch.attempt import Reason
from orch.bus.events import Running
from orch.errors import WorkflowError
from orch.leader.requests import LARGEST, Request, make_request, read_requests
from orch.store.file import FileStore
from orch.work.manifest import MANIFEST, read_manifest

# The socket -------------------------------------------------------------------------------------------------------


class Ends:
    """A stream that keeps what is sent, and a service that hears; both do what the real ones would."""

    def __init__(self) -> None:
        self.sent = b""
        self.over = False
        self.messages: list[protocol.FromLeader] = []
        self.connection = Connection(self, self)

    def send(self, data: bytes) -> None:
        self.sent += data

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.over:
            self.over = True
            self.connection.gone()

    def heard(self, _connection: Connection, message: protocol.FromLeader) -> None:
        self.messages.append(message)

    def closed(self, _connection: Connection) -> None:
        pass


def nested(depth: int) -> bytes:
    """A message with lists in lists, where there is nothing of the kind."""
    return msgspec.msgpack.encode({"type": "bye"})[:-4] + b"\xa1x" + b"\x91" * depth + b"\xc0"


def garbage(chance: random.Random) -> bytes:
    """Bytes that begin like something, or like nothing."""
    good = protocol.frame(protocol.Ask(1, "a.1.1"))
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(1, 200))
        case 1:
            return good[: chance.randrange(1, len(good))]
        case 2:
            data = bytearray(good * 3)
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(data)
        case 3:
            return chance.randrange(1 << 32).to_bytes(4, "big") + chance.randbytes(50)
        case 4:
            body = nested(chance.choice([10, 1000, 100_000]))
            return len(body).to_bytes(4, "big") + body
        case _:
            return good * chance.randrange(3) + b"\0\0\0\0" * chance.randrange(9) + b"GET / HTTP/1.1\r\n\r\n"


def pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        count = chance.randrange(1, len(data) + 1)
        yield data[:count]
        data = data[count:]


def test_frames_of_garbage_raise_nothing() -> None:
    for seed in range(3000):
        chance = random.Random(seed)
        ends = Ends()
        for piece in pieces(chance, garbage(chance)):
            if not ends.over:
                ends.connection.feed(piece)
        refusals = protocol.Frames().feed(ends.sent)
        assert len(refusals) <= 1, seed
        assert ends.over == bool(refusals), seed
        assert all(isinstance(protocol.from_agent(each), protocol.Refused) for each in refusals), seed


def test_a_frame_is_the_same_in_any_pieces() -> None:
    good = protocol.frame(protocol.Ask(1, "a.1.1")) + protocol.frame(protocol.Cancel(["x"]))
    for seed in range(200):
        ends = Ends()
        for piece in pieces(random.Random(seed), good):
            ends.connection.feed(piece)
        assert ends.messages == [protocol.Ask(1, "a.1.1"), protocol.Cancel(["x"])]


def test_whoever_announces_too_much_is_refused_at_once() -> None:
    ends = Ends()
    ends.connection.feed((LONGEST_HELLO + 1).to_bytes(4, "big"))
    assert ends.over
    patient = Ends()
    patient.connection.feed(LONGEST_HELLO.to_bytes(4, "big"))
    assert not patient.over


async def test_garbage_does_not_end_an_agent_or_its_attempts(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    view = await lab.open()
    begun, go = Signal(tmp_path / "begun"), tmp_path / "go"
    os.mkfifo(go)
    attempt = view.shell(f"echo x > {begun.path}; cat {go}")
    await view.submit(attempt)
    await begun.wait()
    agent = view.agent
    for seed in range(60):
        await asyncio.to_thread(_annoy, lab.runtime, random.Random(seed))
    half = [_connected(lab.runtime) for _ in range(20)]
    for end in half:
        end.sendall(b"\0\0\1\0half a message")
    await asyncio.to_thread(go.write_text, "done")
    outcome = await view.outcome(attempt)
    assert outcome.reason is Reason.FINISHED
    assert outcome.stdout.data == b"done"
    assert view.agent == agent
    assert (await view.run_one(view.shell("true"))).reason is Reason.FINISHED
    for end in half:
        end.close()
    begun.close()
    await lab.close()


def _connected(runtime: str) -> socket.socket:
    found = paths.connect(runtime)
    assert found is not None
    return found


def _annoy(runtime: str, chance: random.Random) -> None:
    """Say something silly, and leave, listening or not."""
    with _connected(runtime) as end:
        end.settimeout(PATIENCE)
        try:
            end.sendall(garbage(chance))
            if chance.random() < 0.5:
                end.shutdown(socket.SHUT_WR)
                while end.recv(4096):
                    pass
        except (BrokenPipeError, ConnectionResetError):  # it has hung up on us
            return


# Requests ---------------------------------------------------------------------------------------------------------


def litter(directory: Path, run: str, secret: Path) -> None:
    """What somebody who can write to the store may leave there."""
    directory.mkdir(mode=0o700, exist_ok=True)
    stop = {"run": run, "what": "stop", "epoch": 1, "by": "x"}
    wishes: dict[str, bytes] = {
        "empty": b"",
        "binary": bytes(range(256)),
        "list": b"[]",
        "null": b"null",
        "no text": b'{"run":"\xff","what":"\xff"}',
        "half": msgspec.json.encode(stop)[:-5],
        "huge": msgspec.json.encode({**stop, "by": "x" * LARGEST}),
        "deep": b'{"x":' + b"[" * 60_000,
        "wrong": msgspec.json.encode({**stop, "epoch": "one"}),
        "other run": msgspec.json.encode({**stop, "run": "../../other"}),
        "other wish": msgspec.json.encode({**stop, "what": "; rm -rf /"}),
        "late": msgspec.json.encode({**stop, "epoch": 0}),
        "early": msgspec.json.encode({**stop, "epoch": 99}),
        "elsewhere": msgspec.json.encode({**stop, "epoch": 0, "file": str(secret)}),
    }
    for name, data in wishes.items():
        (directory / f"{run}.{name}.json").write_bytes(data)
    os.mkfifo(directory / f"{run}.fifo.json")
    (directory / f"{run}.directory.json").mkdir()
    (directory / f"{run}.link.json").symlink_to(secret)
    (directory / f"{run}.broken.json").symlink_to("nowhere")
    (directory / f"{run}.zero.json").symlink_to("/dev/zero")
    (directory / os.fsdecode(b"\xff\xfe.json")).write_bytes(b"{}")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(f"/proc/self/fd/{_opened(directory)}/socket.json")


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY)


def test_only_wishes_are_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(msgspec.json.encode(Request(run="r", what="stop", epoch=1, by="x")))
    litter(tmp_path / "requests", "r", secret)
    good = make_request(tmp_path, "r", "stop", 1, "me")
    found = read_requests(tmp_path)
    assert [each.by for each in found if each.what == "stop" and (each.run, each.epoch) == ("r", 1)] == ["me"]
    assert all(Path(each.file).parent == good.parent for each in found)


@pytest.mark.parametrize("wish", ["", "stop"])
async def test_a_run_goes_on_among_litter(tmp_path: Path, wish: str) -> None:
    (tmp_path / "wf.py").write_text(
        "import orch\n@orch.workflow\ndef main(go: str):\n    return orch.command(['cat', go])['stdout']\n"
    )
    os.mkfifo(tmp_path / "go")
    secret = tmp_path / "secret"
    secret.write_bytes(msgspec.json.encode(Request(run="r", what="cancel", epoch=1, by="x")))
    litter_at = tmp_path / "s" / "requests"
    args = ["run", "--store", "s", "--run-id", "r", "wf.py", "--go", str(tmp_path / "go")]
    with running(*args, cwd=tmp_path) as process:
        await until(log_directory(tmp_path / "s", "r"), lambda event: isinstance(event, Running))
        litter(litter_at, "r", secret)
        if wish:
            assert orch(wish, "--store", "s", "r", cwd=tmp_path).returncode == 0
        else:
            (tmp_path / "go").write_text("done")
        out, err = await asyncio.to_thread(process.communicate)
        assert (process.returncode, out) == ((130, "") if wish else (0, '"done"\n')), err
        assert "Traceback" not in err
    assert secret.exists()


# Files of the store -----------------------------------------------------------------------------------------------

BROKEN = [b"", b"\0" * 100, b"null\n", b'{"format":"\xff","time":"\xff"}\n', b'{"x":' + b"[" * 60_000, b"\xff\xfe{}\n"]


@pytest.mark.parametrize("data", BROKEN)
@pytest.mark.parametrize("name", ["orch.json", "runs/r/log/000001.events.jsonl"])
def test_a_broken_file_is_told_as_what_it_is(tmp_path: Path, name: str, data: bytes) -> None:
    store = FileStore(tmp_path / "s")
    store.create()
    store.write_bytes(name, data)
    (tmp_path / "wf.py").write_text("import orch\n@orch.workflow\ndef main():\n    return 1\n")
    for command in (["list"], ["status", "r"], ["tail", "r"], ["run", "wf.py"]):
        done = orch(command[0], "--store", "s", *command[1:], cwd=tmp_path)
        assert "Traceback" not in done.stderr, (command, done.stderr)
        assert done.returncode in (0, 2, 4, 6), (command, done)


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_manifest_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(WorkflowError, match="the workflow's code cannot be read"):
        read_manifest(str(tmp_path))
