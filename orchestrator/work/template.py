"""The template: a process that has imported a workflow, and forks attempts and warm workers from there.

Started by the agent with a socket, in the environment of the run. It has one thread, for only then is a fork safe, and
never runs an attempt itself. Its heap is frozen, so that the garbage collector of a fork leaves shared pages alone.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from orch.agent import inside, packets
from orch.agent.linux import die_with_parent
from orch.agent.tags import OwnTag, tag_of
from orch.attempt import Attempt, Note, Place
from orch.bus.events import Blob, Resources
from orch.environment import inherited
from orch.errors import OrchError


class Template:
    """Serves one agent over `end`, whose end is also this process's."""

    def __init__(self, end: socket.socket, setup: inside.Setup) -> None:
        self._end = end
        self._place = setup.place
        self._agent = setup.agent
        self._tag = OwnTag()
        self._pid = os.getpid()
        self._children: set[int] = set()
        self._forked = 0
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Fork what the agent asks for, until it is gone."""
        signal.signal(signal.SIGCHLD, _heard)
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._end.fileno(), select.POLLIN)
        poll.register(self._wake_in, select.POLLIN)
        while True:
            for descriptor, _mask in poll.poll():
                if descriptor == self._wake_in:
                    os.read(self._wake_in, 4096)
                    self._reap()
                elif not self._hear():
                    return

    def _hear(self) -> bool:
        """One message; False when the agent is gone."""
        packet = packets.receive(self._end)
        if packet is None:
            return False
        data, descriptors = packet
        try:
            match inside.to_template(data):
                case inside.Fork(attempt):
                    self._fork(attempt, descriptors)
                case inside.Hire(number):
                    self._hire(number, descriptors)
                case inside.Kill(pid):
                    if pid in self._children:  # not waited for yet: the pid is still its own
                        os.kill(pid, signal.SIGKILL)
                case inside.Setup():
                    pass
        finally:
            for each in descriptors:
                os.close(each)
        return True

    def _fork(self, attempt: Attempt, descriptors: list[int]) -> None:
        def body() -> None:
            out, err, *stop = descriptors
            self._become(out, err)
            self._tag.set(tag_of(self._agent, attempt.key))
            run_one(attempt, self._place, self._end, stop[0] if stop else -1)

        self._forked += 1
        _prepare(attempt, self._forked)
        pid, message = self._child(body)
        self._send(inside.Forked(attempt.key, pid, message))

    def _hire(self, number: int, descriptors: list[int]) -> None:
        def body() -> None:
            from orch.work.pool import work

            out, err, feed = descriptors
            self._become(out, err)
            work(
                feed=socket.socket(fileno=os.dup(feed)),
                answers=self._end,
                place=self._place,
                mark=lambda key: self._tag.set(tag_of(self._agent, key)),
            )

        pid, message = self._child(body)
        self._send(inside.Hired(number, pid, message))

    def _child(self, body: Callable[[], None]) -> tuple[int, str]:
        """Fork; in the child, run `body` and end. The pid, or 0 and what went wrong."""
        try:
            pid = os.fork()
        except OSError as error:
            return 0, f"no process could be made: {error.strerror}"
        if pid == 0:
            _end_after(body)
        self._children.add(pid)
        return pid, ""

    def _become(self, out: int, err: int) -> None:
        """In the child: an own session, that ends with the template, and own output."""
        os.setsid()
        die_with_parent(self._pid)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self._wake_in)
        os.close(self._wake_out)
        os.dup2(out, 1)
        os.dup2(err, 2)
        gc.enable()

    def _reap(self) -> None:
        """Tell of the children that have ended. Others than ours belong to what was imported."""
        for pid in list(self._children):
            try:
                done, status, used = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:  # what was imported waits for children that are not its own
                self._children.discard(pid)
                self._send(inside.Exited(pid, 0, 0.0, 0.0))
                continue
            if done:
                self._children.discard(pid)
                self._send(inside.Exited(pid, status, used.ru_utime, used.ru_stime, used.ru_maxrss * 1024))

    def _send(self, message: inside.FromTemplate) -> None:
        packets.send(self._end, inside.encode(message))


MANY = 8
"""Forks. A run that has so many is worth the time to import here what only attempts with files need."""


def _prepare(attempt: Attempt, number: int) -> None:
    """Import what all attempts of a kind need that most workflows lack: once here, and not in every fork."""
    if number == MANY:
        import orch.store.file
        import orch.work.staging
    if attempt.survey:
        import orch.work.calls
        import orch.work.survey
    if b"orch.work.program" in attempt.body.data:  # it is a program: the pickle names what performs it
        import orch.work.program  # noqa: F401 - as above


def run_one(attempt: Attempt, place: Place, answers: socket.socket, stop_signal: int) -> None:
    """In a fork: run the attempt, and send what it left behind. `stop_signal` is for services (`orch.agent.inside`)."""
    from orch.work.execute import run_attempt

    def emit(note: Note) -> None:
        packets.send(answers, inside.encode(inside.Said(note)))

    outcome = run_attempt(attempt, place, emit, stop_signal=stop_signal)
    packets.send(answers, inside.encode(inside.Left(outcome)))


def warm_up(place: Place) -> None:
    """Run an attempt that does nothing: what is done once in a process is done here, not in every fork."""
    from orch.work.execute import run_attempt

    body = pickle.dumps((int, (), {}), 5)
    attempt = Attempt(
        key=f"template.{os.getpid()}",
        run="",
        job=0,
        attempt=0,
        epoch=0,
        kind="nothing",
        name="",
        form="fork",
        body=Blob(data=body, size=len(body)),
        resources=Resources(),
    )
    inside.encode(inside.Left(run_attempt(attempt, place, lambda _: None)))


def _heard(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal reaches the wake-up descriptor."""


def _end_after(body: Callable[[], None]) -> NoReturn:
    """The whole of a forked child: never back into the template's own code."""
    code = 70
    try:
        body()
        code = 0
    except BaseException:  # noqa: BLE001 - a bug of ours, or a full disk: it is on the attempt's stderr
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _import(bundle: str, python_path: list[str]) -> inside.ImportFailed | None:
    """Import the workflow; what went wrong, if anything did."""
    sys.path.extend(path for path in python_path if path not in sys.path)
    ours = False
    try:
        import orch.work.execute  # noqa: F401 - so that forks have it

        if bundle:
            from orch.work.loader import load
            from orch.work.manifest import read_manifest

            ours = True
            read_manifest(bundle)
            ours = False
            load(bundle)
    except OrchError as error:
        return inside.ImportFailed(str(error), ours)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, sys.exit among it
        return inside.ImportFailed("".join(traceback.format_exception_only(error)).strip())
    return None


def main() -> None:
    """Run as `python -P -m orch.work.template DESCRIPTOR PARENT`."""
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(end.fileno(), False)  # noqa: FBT003 - a fixed signature
    first = packets.receive(end)
    if first is None:
        return
    setup = inside.to_template(first[0])
    assert isinstance(setup, inside.Setup)
    sys.argv = [sys.argv[0]]
    inherited.update(os.environ)
    problem = _import(setup.bundle, setup.python_path)
    if problem is not None:
        packets.send(end, inside.encode(problem))
        return
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    warm_up(setup.place)
    gc.collect()
    gc.disable()
    gc.freeze()
    packets.send(end, inside.encode(inside.Ready()))
    Template(end, setup).serve()


if __name__ == "__main__":
    main()
