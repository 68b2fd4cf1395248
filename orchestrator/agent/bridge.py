"""`python -P -m orch.agent.bridge`: on a host that a leader reaches by a stream, the way to the agents there.

Its stdin and stdout are that stream (`orch.agent.mux`). It finds or starts the agent of a store, connects to it as a
leader on this host would, and passes on what is said. It leads nothing and keeps nothing: when its stdin ends, or
nothing has come for a minute, it leaves, and agents and attempts go on.

Where this host does not see the leader's store it has one of its own, the mirror, which the leader fills. An attempt
that wants a file which is not there says so by a file in `wanted/` (`orch.work.wishes`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from orch.agent import paths, start
from orch.agent.linux import boot_id
from orch.agent.mux import Facts, Failed, Frame, Frames, Kind, Open, Question, Wanted, frame, message
from orch.errors import AdapterError, OrchError
from orch.store import layout
from orch.store.file import FileStore
from orch.store.private import make_private, open_private
from orch.work import wishes

SILENCE = 60.0
"""Seconds without a word of the leader after which it is taken for gone: it says something every few seconds."""

_LOOK = 1.0
"""Seconds between looks at what attempts want, should a bell have rung for another bridge."""

_OF_THE_HOST = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "HOSTNAME", "TZ", "PYTHONPATH")
"""What a run's environment does not say, or says of another host (`orch.environment`), and the way to orch."""


class Bridge:
    """The process."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in, self._out = incoming, outgoing
        self._sending = threading.Lock()
        self._streams: dict[int, socket.socket] = {}
        self._mirrors: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()

    def serve(self) -> None:
        """Until the leader is gone."""
        self._send(message(0, Kind.ANSWER, facts()))
        frames, heard = Frames(), time.monotonic()
        while time.monotonic() - heard < SILENCE:
            ready, _, _ = select.select([self._in, *self._mirrors.values()], [], [], _LOOK)
            if self._in in ready:
                data = os.read(self._in, 1 << 18)
                if not data:
                    return
                heard = time.monotonic()
                for each in frames.feed(data):
                    self._heard(each)
            for mirror, bell in self._mirrors.items():
                if bell in ready:
                    os.read(bell, 4096)
                self._tell_wishes(mirror)

    def _send(self, data: bytes) -> None:
        with self._sending:
            view = memoryview(data)
            while view:
                view = view[os.write(self._out, view) :]

    def _heard(self, each: Frame) -> None:
        match each.kind:
            case Kind.OPEN:
                wanted = msgspec.msgpack.decode(each.data, type=Open)
                threading.Thread(target=self._stream, args=(each.number, wanted), daemon=True).start()
            case Kind.DATA:
                end = self._streams.get(each.number)
                if end is not None:
                    with contextlib.suppress(OSError):  # the stream's own thread sees it, and says so
                        end.sendall(each.data)
            case Kind.CLOSE:
                end = self._streams.get(each.number)
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            case Kind.ASK:
                self._answer(each)
            case _:
                return

    # Streams --------------------------------------------------------------------------------------------------

    def _stream(self, number: int, wanted: Open) -> None:
        """The thread of one connection to an agent."""
        try:
            runtime = paths.runtime_directory(wanted.store, wanted.work_dir, os.environ)
            end = start.reach(wanted.store, runtime)
        except AdapterError as error:
            self._send(message(number, Kind.FAILED, Failed(str(error), isinstance(error, start.AgentDiedError))))
            return
        end.settimeout(None)
        self._streams[number] = end
        self._send(frame(number, Kind.OPENED, os.fsencode(runtime)))
        with contextlib.suppress(OSError):
            while data := end.recv(1 << 18):
                self._send(frame(number, Kind.DATA, data))
        del self._streams[number]
        end.close()
        self._send(frame(number, Kind.CLOSE))

    # Questions ------------------------------------------------------------------------------------------------

    def _answer(self, each: Frame) -> None:
        question = msgspec.msgpack.decode(each.data, type=Question)
        try:
            answer = _QUESTIONS[question.what](self, question)
        except (OSError, OrchError) as error:
            self._send(message(each.number, Kind.FAILED, Failed(str(error))))
        else:
            self._send(message(each.number, Kind.ANSWER, answer))

    def sees(self, question: Question) -> bool:
        """Is what is at this path what the leader has put there, and can something be put beside it?"""
        try:
            with open(question.about, encoding="ascii") as file:
                if file.read(1000) != question.text:
                    return False
            answer = f"{question.about}.seen"
            with open(answer, "x", encoding="ascii", opener=open_private) as file:
                file.write(question.text[::-1])
        except (OSError, ValueError):
            return False
        return True

    def mirror(self, question: Question) -> bool:
        """Have a store there that stands for the leader's."""
        root = question.about
        make_private(root)
        FileStore(root).create()
        wishes.make(root, question.text)
        if root not in self._mirrors:
            self._mirrors[root] = wishes.open_bell(root)
        return True

    def denied(self, question: Question) -> bool:
        """A file that an attempt waits for is not there at all."""
        root, _, path = question.about.partition("\0")
        wishes.deny(root, path, question.text)
        self._told.discard((root, path))
        return True

    def granted(self, question: Question) -> bool:
        """It is there now."""
        root, _, path = question.about.partition("\0")
        wishes.grant(root, path)
        self._told.discard((root, path))
        return True

    def forget(self, question: Question) -> bool:
        """A run has nothing in the mirror any more that is of use."""
        root, _, run = question.about.partition("\0")
        shutil.rmtree(os.path.join(root, layout.run_dir(run)), ignore_errors=True)
        return True

    def _tell_wishes(self, mirror: str) -> None:
        for path in wishes.wanted(mirror):
            if (mirror, path) not in self._told:
                self._told.add((mirror, path))
                self._send(message(0, Kind.WANTED, Wanted(mirror, path)))


_QUESTIONS: dict[str, Callable[[Bridge, Question], bool]] = {
    "sees": Bridge.sees,
    "mirror": Bridge.mirror,
    "denied": Bridge.denied,
    "granted": Bridge.granted,
    "forget": Bridge.forget,
}


def facts() -> Facts:
    """What there is to say of this host."""
    home = os.path.expanduser("~")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return Facts(
        host=paths.host_name(),
        boot=boot_id(),
        python=platform.python_version(),
        executable=sys.executable,
        clock=time.time(),
        cache=os.path.join(cache, "orch"),
        environment={name: os.environ[name] for name in _OF_THE_HOST if name in os.environ},
    )


def main() -> int:
    """Pass on until the leader is gone. What is written by mistake goes to stderr."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.chdir("/")
    with contextlib.suppress(BrokenPipeError):
        Bridge(incoming, outgoing).serve()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads that still pass something on have nobody to pass it on to
