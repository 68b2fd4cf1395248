"""The template: a process that has imported a workflow, and forks attempts and warm workers from there.

Started by the agent with a socket, in the environment of the run. It has one thread, for only then is a fork safe, and
never runs an attempt itself. Its heap is frozen, so that the garbage collector of a fork leaves shared pages alone.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from orch.agent import inside, packets
from orch.agent.linux import die_with_parent
from orch.agent.tags import OwnTag, placeholder, tag_of
from orch.attempt import Attempt
from orch.environment import inherited
from orch.errors import OrchError
from orch.work.forks import FILES, REHEARSALS, end_after, prepare, prepare_files, rehearse, run_one

# The functions behind those of `signal`, whose way through enums costs a fork 50 pages more.
_set_handler = signal.signal.__globals__["_signal"].signal
_SIGCHLD, _SIGINT, _SIG_DFL = int(signal.SIGCHLD), int(signal.SIGINT), int(signal.SIG_DFL)


FEW = 3
"""Forks. A run that has so many is likely to want another: it is made ahead of time, while there is nothing to do."""

LARGE = 20
"""Forks. A run that has so many is worth the time to make each of them cheaper (see `orch.work.largepages`)."""


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
        self._ahead: tuple[int, socket.socket] | None = None  # a fork that waits for its attempt, and how to reach it
        self._more_expected = False
        self._gathered = False
        self._has_files = False
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Fork what the agent asks for, until it is gone."""
        signal.signal(signal.SIGCHLD, _heard)
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._end.fileno(), select.POLLIN)
        poll.register(self._wake_in, select.POLLIN)
        while True:
            found = poll.poll(0 if self._more_expected else None)
            if not found:
                self._prepare_for_more()
            for descriptor, _mask in found:
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
                case inside.Fork(attempt, scratch):
                    self._fork(attempt, scratch, data, descriptors)
                case inside.Hire(number, scratch):
                    self._hire(number, scratch, descriptors)
                case inside.Kill(pid):
                    if pid in self._children:  # not waited for yet: the pid is still its own
                        os.kill(pid, signal.SIGKILL)
                case inside.Setup():
                    pass
        finally:
            for each in descriptors:
                os.close(each)
        return True

    def _fork(self, attempt: Attempt, scratch: str, data: bytes, descriptors: list[int]) -> None:
        self._forked += 1
        pid, message = self._hand_over(data, descriptors), ""
        prepare(attempt)
        if not pid:
            pid, message = self._fork_now(attempt, scratch, descriptors)
        self._send(inside.Forked(attempt.key, pid, message))
        self._more_expected = self._forked >= FEW

    def _hand_over(self, data: bytes, descriptors: list[int]) -> int:
        """Have the fork that was made ahead run an attempt; its pid, or 0 if there is none."""
        if self._ahead is None:
            return 0
        pid, feed = self._ahead
        self._ahead = None
        with feed:
            try:
                packets.send(feed, data, tuple(descriptors))
            except OSError:  # somebody has killed it
                return 0
        return pid

    def _fork_now(self, attempt: Attempt, scratch: str, descriptors: list[int]) -> tuple[int, str]:
        def body() -> int:
            self._become()
            return self._run(attempt, scratch, descriptors)

        return self._child(body)

    def _run(self, attempt: Attempt, scratch: str, descriptors: list[int]) -> int:
        """In the child: run an attempt; the exit code."""
        out, err, *stop = descriptors
        os.dup2(out, 1)
        os.dup2(err, 2)
        self._tag.set(tag_of(self._agent, attempt.key))
        return run_one(attempt, self._place, scratch, self._end, stop[0] if stop else -1)

    def _prepare_for_more(self) -> None:
        """There is nothing to do, and more will come."""
        self._more_expected = False
        if self._forked >= LARGE and not self._gathered:
            self._gathered = True
            from orch.work.largepages import gather

            if gather():
                self._send(inside.Ready())  # it is of another size now
        if self._ahead is None:
            self._fork_ahead()

    def _fork_ahead(self) -> None:
        """Make the fork for the next attempt, and have it wait for that."""
        ours, theirs = packets.pair()

        def body() -> int:
            ours.close()
            self._become()
            rehearse(self._place)
            packet = packets.receive(theirs)
            theirs.close()
            if packet is None:
                return 0
            message = inside.to_template(packet[0])
            assert isinstance(message, inside.Fork)
            return self._run(message.attempt, message.scratch, packet[1])

        pid, _ = self._child(body)
        theirs.close()
        if pid:
            self._ahead = pid, ours
        else:  # the next attempt will say why
            ours.close()

    def _hire(self, number: int, scratch: str, descriptors: list[int]) -> None:
        def body() -> int:
            from orch.work.pool import work

            out, err, feed = descriptors
            self._become()
            os.dup2(out, 1)
            os.dup2(err, 2)
            work(
                feed=socket.socket(fileno=os.dup(feed)),
                answers=self._end,
                place=self._place,
                scratch=scratch,
                mark=lambda key: self._tag.set(tag_of(self._agent, key)),
            )
            return 0

        pid, message = self._child(body)
        self._send(inside.Hired(number, pid, message))

    def _child(self, body: Callable[[], int]) -> tuple[int, str]:
        """Fork; in the child, run `body` and end. The pid, or 0 and what went wrong."""
        gc.freeze()  # also what was made since the last time
        try:
            pid = os.fork()
        except OSError as error:
            return 0, f"no process could be made: {error.strerror}"
        if pid == 0:
            end_after(body)
        self._children.add(pid)
        return pid, ""

    def _become(self) -> None:
        """In the child: an own session, that ends with the template."""
        os.setsid()
        die_with_parent(self._pid)
        signal.set_wakeup_fd(-1)
        _set_handler(_SIGCHLD, _SIG_DFL)
        _set_handler(_SIGINT, signal.default_int_handler)
        os.close(self._wake_in)
        os.close(self._wake_out)
        gc.enable()

    def _reap(self) -> None:
        """Tell of the children that have ended. Others than ours belong to what was imported."""
        for pid in list(self._children):
            try:
                done, status, used = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:  # what was imported waits for children that are not its own
                self._ended(inside.Exited(pid, 0, 0.0, 0.0))
                continue
            if done:
                if status == FILES << 8 and not self._has_files:  # as wait(2) gives it
                    self._has_files = True
                    prepare_files()
                self._ended(inside.Exited(pid, status, used.ru_utime, used.ru_stime, used.ru_maxrss * 1024))

    def _ended(self, news: inside.Exited) -> None:
        self._children.discard(news.pid)
        if self._ahead is not None and news.pid == self._ahead[0]:  # nobody knows of it
            self._ahead[1].close()
            self._ahead = None
            return
        self._send(news)

    def _send(self, message: inside.FromTemplate) -> None:
        packets.send(self._end, inside.encode(message))


def _heard(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal reaches the wake-up descriptor."""


def _import(bundle: str, python_path: list[str]) -> inside.ImportFailed | None:
    """Import the workflow; what went wrong, if anything did."""
    sys.path.extend(path for path in python_path if path not in sys.path)
    ours = False
    try:
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
    for number, each in enumerate(first[1], 1):
        os.dup2(each, number)
        os.close(each)
    OwnTag().set(placeholder(setup.agent))  # it may have been started before there was one
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
    for _ in range(REHEARSALS):
        rehearse(setup.place)
    gc.collect()
    gc.disable()
    gc.freeze()
    packets.send(end, inside.encode(inside.Ready()))
    Template(end, setup).serve()


if __name__ == "__main__":
    main()
