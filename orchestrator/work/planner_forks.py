"""A warm planner: it has imported a workflow, and forks a child for each plan that is wanted of it.

Started by `orch.planner_pool` as `python -P -m orch.work.planner_forks`. Its stdin is a socket for packets. The first
is a `Load`; each of the others brings three descriptors for one planning: the conversation (`orch.work.planner`), the
stderr, and a socket on which this process says what became of it, a packet each:

    forked         a child plans
    ended STATUS   that child has ended, with this wait status
    alone          this process itself plans, and ends then: a fork would not be as good as a new process
    failed         the same, since the workflow cannot be imported
    stale          nobody plans: what the import has read has changed since

The child is ended when the other side shuts that socket down. When nobody holds the other end of stdin any more, the
children are ended, and this process with them.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

import msgspec

from orch.agent import packets
from orch.work.framing import Load, Trouble
from orch.work.leftovers import Watch, freshen
from orch.work.loader import LoadedWorkflow
from orch.work.planner import converse, load_for, take_stdin


class Forks:
    """Serves one leader over `channel`."""

    def __init__(self, channel: socket.socket, loaded: LoadedWorkflow | Trouble, watch: Watch) -> None:
        self._channel = channel
        self._loaded = loaded
        self._watch = watch
        self._whole = watch.end(loaded.module if isinstance(loaded, LoadedWorkflow) else None)
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._children: dict[int, tuple[int, socket.socket]] = {}  # by the pidfd
        self._by_word: dict[int, int] = {}  # the pidfd by the descriptor of the socket
        self._forked = False

    def serve(self) -> None:
        """Until the leader is gone."""
        gc.freeze()
        while True:
            for descriptor, _ in self._poll.poll():  # the channel first: what is closed here is not yet used again
                if descriptor == self._channel.fileno():
                    if not self._hear():
                        return
                elif descriptor in self._children:
                    self._bury(descriptor)
                elif descriptor in self._by_word:
                    self._poll.unregister(descriptor)
                    _kill(self._children[self._by_word[descriptor]][0])

    def _hear(self) -> bool:
        packet = packets.receive(self._channel)
        if packet is None:
            for child, _ in self._children.values():
                _kill(child)
            return False
        talk, errors, word = packet[1]
        said = socket.socket(fileno=word)
        if isinstance(self._loaded, Trouble) or not self._whole:
            _say(said, "alone" if isinstance(self._loaded, LoadedWorkflow) else "failed")
            self._plan(talk, errors)
        elif self._watch.is_stale():
            _say(said, "stale")
            said.close()
        else:
            self._fork(talk, errors, said)
        os.close(talk)
        os.close(errors)
        return True

    def _fork(self, talk: int, errors: int, word: socket.socket) -> None:
        if self._forked:
            import orch.agent.linux  # noqa: F401 - slow to import: the first plan is in a hurry, and may be the only one
        child = os.fork()
        if not child:
            self._become(word)
            self._plan(talk, errors)
        _say(word, "forked")
        held = os.pidfd_open(child)
        self._children[held] = child, word
        self._by_word[word.fileno()] = held
        self._poll.register(held, select.POLLIN)
        self._poll.register(word, select.POLLIN)
        if not self._forked:
            self._forked = True
            self._settle()

    def _settle(self) -> None:
        """After the first fork, which was in a hurry: let go of its stderr, which was that of the import."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)

    def _become(self, word: socket.socket) -> None:
        """In the child: a process as the first one of the bundle was before it planned."""
        parent = os.getppid()
        os.setsid()
        if self._forked:
            from orch.agent.linux import die_with_parent

            die_with_parent(parent)
        for held, (_, other) in self._children.items():
            os.close(held)
            other.close()
        word.close()
        freshen()

    def _plan(self, talk: int, errors: int) -> NoReturn:
        """Plan in this process, which ends with that."""
        self._channel.close()
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.close(errors)
        converse(os.fdopen(os.dup(talk), "rb"), os.fdopen(talk, "wb"), self._loaded)

    def _bury(self, held: int) -> None:
        child, word = self._children.pop(held)
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:  # what was imported waits for children that are not its own
            status = 0
        del self._by_word[word.fileno()]
        for each in (held, word.fileno()):
            try:
                self._poll.unregister(each)
            except KeyError:  # it was to be ended
                continue
        _say(word, f"ended {status}")
        word.close()
        os.close(held)


def _kill(child: int) -> None:
    """End a child that was not waited for, and what it has started in its session's first process group."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has no session yet
        os.kill(child, signal.SIGKILL)


def _say(word: socket.socket, text: str) -> None:
    try:
        word.send(text.encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    except OSError:  # nobody listens
        return


def main() -> None:
    """Load what is asked for, and serve."""
    channel = socket.socket(fileno=take_stdin())
    packet = packets.receive(channel)
    if packet is None:
        return
    request = msgspec.msgpack.decode(packet[0], type=Load)
    watch = Watch(request.bundle)
    loaded = load_for(request)
    sys.stdout.flush()
    sys.stderr.flush()
    Forks(channel, loaded, watch).serve()
    os._exit(0)  # user code may have left threads behind; there is nothing to wait for


if __name__ == "__main__":
    main()
