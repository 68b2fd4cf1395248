"""The cluster's process: one thread that hears programs on a socket, and the ends of its children."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from orch.agent.processes import kill_child, own_children
from orch.testing.cluster.client import SOCKET
from orch.testing.cluster.scheduler import Scheduler
from orch.testing.cluster.tasks import Node, Task, mark_of


class Connection:
    """A program that asks one question. `due`: when it gets what is in `answer`."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.heard = b""
        self.answer = b""
        self.due = 0.0
        self.asked = False


class Daemon:
    """Serves until `alive`, a descriptor, is readable: its other end has been closed."""

    def __init__(self, listening: socket.socket, alive: int, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.counts: Counter[str] = Counter()
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._ends = False
        wake_from, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # so that it wakes us
        self._selector.register(listening, selectors.EVENT_READ, self._accept)
        self._selector.register(wake_from, selectors.EVENT_READ, lambda: self._woken(wake_from))
        self._selector.register(alive, selectors.EVENT_READ, self._stop)

    def serve(self) -> None:
        """Until nobody needs it any more; then nothing that it has started is left."""
        while not self._ends:
            now = time.time()
            wait = min(self.scheduler.step(now), *(each.due - now for each in self._connections if each.answer), 3600.0)
            for key, _ in self._selector.select(max(0.0, wait)):
                key.data()
            self._send_what_is_due(time.time())
        self._end_children()

    def _stop(self) -> None:
        self._ends = True

    def _woken(self, descriptor: int) -> None:
        numbers = os.read(descriptor, 4096)
        self._ends |= int(signal.SIGTERM) in numbers
        self._reap()

    def _reap(self) -> None:
        orphaned = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            orphaned = True
            self.scheduler.exited(pid, status, time.time())
        if orphaned:
            self._end_what_is_nobodys()

    def _end_what_is_nobodys(self) -> None:
        """What became ours, and belongs to no task that runs."""
        known = self.scheduler.first_processes()
        for child in own_children():
            if child not in known and self.scheduler.owner(mark_of(child)) is None:
                kill_child(child)

    def _end_children(self) -> None:
        self.scheduler.end_all()
        while children := own_children():
            for child in children:
                kill_child(child)
            os.waitpid(children[0], 0)

    # Programs -----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        stream, _ = self._listening.accept()
        stream.settimeout(0)
        connection = Connection(stream)
        self._connections.add(connection)
        self._selector.register(stream, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.stream.recv(1 << 20)
        except OSError:
            data = b""
        connection.heard += data
        if not data:
            self._drop(connection)
        elif data.endswith(b"\n") and not connection.asked:
            connection.asked = True
            self._answer(connection, json.loads(connection.heard))

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.stream)
        connection.stream.close()
        self._connections.discard(connection)

    def _send_what_is_due(self, now: float) -> None:
        for connection in [each for each in self._connections if each.answer and each.due <= now]:
            connection.stream.settimeout(5)  # who asks listens
            with contextlib.suppress(OSError):  # or is gone, or stopped
                connection.stream.sendall(connection.answer)
            self._drop(connection)

    def _answer(self, connection: Connection, question: dict[str, Any]) -> None:
        now = time.time()
        answer = self._found(question, now)
        if answer is not None:
            connection.answer = json.dumps(answer).encode("utf-8", "surrogateescape") + b"\n"
        connection.due = now if question["control"] else now + self.scheduler.settings.slow

    def _found(self, question: dict[str, Any], now: float) -> dict[str, Any] | None:
        """The answer; None: there will never be one."""
        op, settings = question.pop("op"), self.scheduler.settings
        if question["control"]:
            return self._do(op, question, now)
        self.counts[op] += 1
        if settings.down:
            return {"error": "down"}
        if op == "submit" and settings.refuse_next:
            text, settings.refuse_next = settings.refuse_next, ""
            return {"error": "rejected", "text": text}
        answer = self._do(op, question, now)
        if op == "submit" and settings.lose_next:
            how, settings.lose_next = settings.lose_next, ""
            return None if how == "hang" else {"error": "lost"}
        return {"error": "nonsense", "text": settings.nonsense} if settings.nonsense else answer

    def _do(self, op: str, question: dict[str, Any], now: float) -> dict[str, Any]:
        action: Callable[[dict[str, Any], float], dict[str, Any]] | None = getattr(self, f"_on_{op}", None)
        if action is None:
            return {"error": f"what is {op}?"}
        try:
            return action(question, now)
        except Exception as error:  # noqa: BLE001 - a question that makes no sense ends nothing but itself
            return {"error": repr(error)}

    def _on_submit(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return {"job": self.scheduler.submit(question, now)}

    def _on_jobs(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return self._rows(self.scheduler.jobs(now), question)

    def _on_history(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return self._rows(self.scheduler.history(now), question)

    def _rows(self, tasks: list[Task], question: dict[str, Any]) -> dict[str, Any]:
        wanted = None if question["jobs"] is None else set(question["jobs"])
        rows = [task.row() for task in tasks if wanted is None or task.job in wanted]
        return {"rows": [row for row in rows for _ in range(1 + self.scheduler.settings.twice)]}

    def _on_cancel(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        unknown = []
        for name, tasks in self.scheduler.select(map(tuple, question["tasks"])):
            live = [task for task in tasks if task.state != "over"]
            for task in live:
                self.scheduler.cancel(task, now, force=question["force"])
            if not live:
                unknown.append(name)
        return {"unknown": unknown}

    def _on_hold(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return self._each(question, self.scheduler.hold)

    def _on_release(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return self._each(question, self.scheduler.release)

    def _each(self, question: dict[str, Any], action: Callable[[Task], object]) -> dict[str, Any]:
        done = 0
        for _, tasks in self.scheduler.select(map(tuple, question["tasks"])):
            for task in tasks:
                action(task)
                done += 1
        return {"done": done}

    def _on_nodes(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        fields = [
            (each.name, each.cores, self.scheduler.free(each), each.memory, each.up) for each in self.scheduler.nodes
        ]
        return {"nodes": [dict(zip(("name", "cores", "free", "memory", "up"), each, strict=True)) for each in fields]}

    # What tests ask for -------------------------------------------------------------------------------------------

    def _on_set(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        self.scheduler.settings.change(question["changes"])
        return {}

    def _on_counts(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return {"counts": dict(self.counts)}

    def _on_reset(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        self.scheduler.reset(now)
        self.counts.clear()
        return {}

    def _on_all(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        return {"rows": [task.row() for task in self.scheduler.tasks]}

    def _on_fault(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        scheduler = self.scheduler
        actions: dict[str, Callable[[Task], object]] = {
            "forget": scheduler.forget,
            "preempt": lambda task: scheduler.preempt(task, now),
            "oom": lambda task: scheduler.cancel(task, now, force=True, reason="memory"),
            "copy": scheduler.start_copy,
            "strange": lambda task: setattr(task, "strange", question["word"]),
        }
        return self._each(question, actions[question["what"]])

    def _on_node(self, question: dict[str, Any], now: float) -> dict[str, Any]:
        for node in self.scheduler.nodes:
            if node.name == question["name"]:
                if question["up"]:
                    node.up = True
                else:
                    self.scheduler.lose_node(node, now)
        return {}


def listen(directory: str) -> socket.socket:
    """The cluster's socket, for this user only. Raises `OSError`."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = f"/proc/self/fd/{folder}/{SOCKET}"
    try:
        if os.path.lexists(path):
            os.unlink(path)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1024)
        return listening
    finally:
        os.close(folder)


def nodes(count: int, cores: int, memory: int) -> list[Node]:
    """Nodes that are alike."""
    return [Node(f"node{number}", cores, memory) for number in range(1, count + 1)]
