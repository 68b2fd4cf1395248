"""The agent's side of templates: one for each bundle, environment and directory, and what was forked from it."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Protocol

from orch.agent import inside, packets, processes
from orch.agent.ahead import ONE_THREAD, Ahead, spawn
from orch.agent.captures import Capture
from orch.agent.loop import IN, OUT, Loop
from orch.agent.model import Run, Task
from orch.agent.outcomes import of_program
from orch.agent.tags import NAME, placeholder
from orch.attempt import Note, Outcome, Reason
from orch.bus.events import Usage

MOST = 8
"""Templates kept; beyond that, the one that was idle longest ends."""

IDLE = 60.0
"""Seconds after which an idle template ends."""

FAILED_FOR = 5.0
"""Seconds during which a failed import is not tried again."""

MOST_KILLED = 3
"""How often in a row a template may be killed (SIGKILL) while it imports, until that counts as the import's fault."""

NOTHING = Usage()


class Worker(Protocol):
    """A warm worker, as far as templates know it."""

    pid: int
    number: int
    scratch: str


class Hooks(Protocol):
    """What templates tell the agent."""

    def forked(self, task: Task, pid: int) -> None:
        """The attempt runs."""

    def left(self, outcome: Outcome) -> None:
        """An attempt's outcome came."""

    def said(self, note: Note) -> None:
        """An attempt said something."""

    def not_started(self, task: Task, message: str, reason: Reason) -> None:
        """The attempt could not be started: FAILED if that is its code's fault, else ERROR."""

    def hired(self, worker: Worker) -> None:
        """A warm worker is there."""

    def gone(self, holder: Task | Worker, status: int | None, usage: Usage) -> None:
        """A child of a template has ended; `status` None: with its template, or nobody knows."""


class Template:
    """One template process."""

    def __init__(self, key: str, pid: int, end: socket.socket, capture: Capture) -> None:
        self.key = key
        self.pid = pid
        self.end = end
        self.capture = capture
        self.sender = packets.Sender(end)
        self.ready = False
        self.failed = ""
        self.fault = Reason.FAILED
        self.baseline = 0
        self.resident = 0
        self.pending: dict[str, Task] = {}
        self.forks: dict[str, Task] = {}
        self.workers: dict[int, Worker] = {}
        self.last_used = time.monotonic()

    @property
    def busy(self) -> bool:
        """Does anything depend on it?"""
        return bool(self.pending or self.forks or self.workers)

    def send(self, message: inside.ToTemplate, descriptors: tuple[int, ...] = ()) -> None:
        """Send, now or when there is room."""
        self.sender.send(inside.encode(message), descriptors)


class Templates:
    """All templates of an agent."""

    def __init__(self, loop: Loop, hooks: Hooks, agent: str, store: str) -> None:
        self._loop = loop
        self._hooks = hooks
        self._agent = agent
        self._store = store
        self._began = time.monotonic()
        self._by_key: dict[str, Template] = {}
        self._killed: dict[str, int] = {}
        self.pids: dict[int, Template] = {}
        self._ahead: Ahead | None = None
        self.ahead = 0
        """The pid of a process that is to be a template, and may end before it is one; 0: there is none."""
        self.holders: dict[int, tuple[Template, Task | Worker]] = {}

    # Asked by the agent ---------------------------------------------------------------------------------------

    def template(self, key: str, run: Run, bundle: str, cwd: str) -> Template:
        """The template of that key, started if it is not there. Raises `OSError`."""
        found = self._by_key.get(key)
        if found is None or (found.failed and time.monotonic() - found.last_used > FAILED_FOR):
            self._make_room()
            found = self._by_key[key] = self._start(key, run, bundle, cwd)
        found.last_used = time.monotonic()
        return found

    def use(self, ahead: Ahead) -> None:
        """For the first template, if it would be alike."""
        self._ahead, self.ahead = ahead, ahead.pid

    def fork(self, template: Template, task: Task) -> None:
        """Have an attempt forked, as soon as the import is done. `task.capture` is where its output goes."""
        task.place = template
        if template.failed:
            self._hooks.not_started(task, template.failed, template.fault)
        elif template.ready:
            self._fork(template, task)
        else:
            template.pending[task.key] = task

    def hire(self, template: Template, worker: Worker, descriptors: tuple[int, ...]) -> None:
        """Have a warm worker forked."""
        template.workers[worker.number] = worker
        template.send(inside.Hire(worker.number, worker.scratch), descriptors)
        self._want(template)

    def withdraw(self, task: Task) -> bool:
        """Take an attempt back that has not been forked yet; False if it is too late."""
        template = task.place
        return isinstance(template, Template) and template.pending.pop(task.key, None) is not None

    def kill(self, holder: Task | Worker) -> None:
        """Kill a child of a template; the news that it is gone will come."""
        found = self.holders.get(holder.pid)
        if found is None:
            return
        template = found[0]
        if template.pid:
            template.send(inside.Kill(holder.pid))
            self._want(template)
        elif holder.pid in processes.own_children():
            processes.kill_child(holder.pid)

    def retire(self, now: float) -> None:
        """End those that have been idle for long."""
        for template in list(self._by_key.values()):
            if not template.busy and now - template.last_used > IDLE:
                self._end(template)
        if now - self._began > IDLE:
            self._drop_ahead()

    def close(self) -> None:
        """End all of them, and what they have forked."""
        for template in list(self._by_key.values()):
            self._end(template)
        self._drop_ahead()

    # Starting -------------------------------------------------------------------------------------------------

    def _start(self, key: str, run: Run, bundle: str, cwd: str) -> Template:
        capture = run.space.captures.take(64 * 1024)
        output = (capture.out.file, capture.err.file)
        ahead, environment = self._ahead, self._environment(run)
        if ahead is not None and ahead.fits(environment, cwd):
            self._ahead, self.ahead = None, 0
            pid, ours = ahead.pid, ahead.end
        else:
            pid, ours = self._spawn(environment, cwd, capture)
        template = Template(key, pid, ours, capture)
        path = os.path.join(self._store, "bundles", bundle) if bundle else ""
        python_path = run.info.python_path if run.info is not None else []
        template.send(inside.Setup(self._agent, run.space.place, path, python_path), output)
        self.pids[pid] = template
        self._loop.add(ours.fileno(), lambda mask: self._possible(template, mask))
        return template

    @staticmethod
    def _spawn(environment: dict[str, str], cwd: str, capture: Capture) -> tuple[int, socket.socket]:
        ours, theirs = packets.pair()
        try:
            ours.settimeout(0)
            os.set_inheritable(theirs.fileno(), True)  # noqa: FBT003 - a fixed signature
            return spawn(theirs.fileno(), environment, cwd, (capture.out.file, capture.err.file)), ours
        except BaseException:  # nobody else will close them, whatever went wrong
            ours.close()
            capture.close()
            raise
        finally:
            theirs.close()

    def _environment(self, run: Run) -> dict[str, str]:
        return {**dict.fromkeys(ONE_THREAD, "1"), **run.environment, NAME: placeholder(self._agent)}

    def _drop_ahead(self) -> None:
        """Nobody wants it: its socket's end is also its own."""
        if self._ahead is not None:
            self._ahead.end.close()
            self._ahead = None

    def _make_room(self) -> None:
        idle = sorted((each for each in self._by_key.values() if not each.busy), key=lambda each: each.last_used)
        for template in idle[: max(0, len(self._by_key) - MOST + 1)]:
            self._end(template)

    def _end(self, template: Template) -> None:
        """Close its socket: it ends by itself, and what it has forked with it."""
        if self._by_key.get(template.key) is template:
            del self._by_key[template.key]
        self._hang_up(template)
        if template.pid in self.pids:
            processes.kill_child(template.pid)

    def _hang_up(self, template: Template) -> None:
        if template.end.fileno() >= 0:
            self._loop.remove(template.end.fileno())
            template.sender.close()
            template.end.close()

    # Heard ----------------------------------------------------------------------------------------------------

    def _possible(self, template: Template, mask: int) -> None:
        if mask & OUT and template.sender.flush():
            self._loop.want(template.end.fileno(), IN)
        if mask & ~OUT:
            self._drain(template, 64)

    def _want(self, template: Template) -> None:
        if template.sender.waiting and template.end.fileno() >= 0:
            self._loop.want(template.end.fileno(), IN | OUT)

    def _drain(self, template: Template, most: int = 1 << 30) -> None:
        """Hear what has come."""
        for _ in range(most):
            if template.end.fileno() < 0:
                return
            try:
                packet = packets.receive(template.end)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = None
            if packet is None:
                self._loop.remove(template.end.fileno())  # its end as a process says the rest
                return
            for each in packet[1]:
                os.close(each)
            self._hear(template, inside.from_template(packet[0]))

    def _hear(self, template: Template, message: inside.FromTemplate) -> None:
        match message:
            case inside.Left(outcome):
                self._hooks.left(outcome)
            case inside.Said(note):
                self._hooks.said(note)
            case inside.Forked(key, pid, text):
                self._forked(template, template.forks[key], pid, text)
            case inside.Hired(number, pid, text):
                self._hired(template, template.workers[number], pid, text)
            case inside.Exited(pid, status, user, system, memory):
                own = max(0, memory - template.resident)  # it began with what it shares with its template
                self._exited(pid, status, Usage(user=user, system=system, memory=own))
            case inside.Ready():
                self._ready(template)
            case inside.ImportFailed(text, ours):
                self._failed(template, text, Reason.ERROR if ours else Reason.FAILED)

    def _ready(self, template: Template) -> None:
        template.ready = True
        self._killed.pop(template.key, None)
        template.baseline = processes.anonymous_memory(template.pid)
        template.resident = processes.resident_memory(template.pid)
        pending, template.pending = template.pending, {}
        for task in pending.values():
            self._fork(template, task)

    def _fork(self, template: Template, task: Task) -> None:
        template.forks[task.key] = task
        assert task.capture is not None
        output = (task.capture.out.file, task.capture.err.file)
        if task.attempt.form == "service":
            self._fork_service(template, task, output)
        else:
            template.send(inside.Fork(task.attempt, task.scratch), output)
        self._want(template)

    def _fork_service(self, template: Template, task: Task, output: tuple[int, int]) -> None:
        """With a socket, the other end of which is closed to tell the service to stop."""
        ours, theirs = socket.socketpair()
        template.send(inside.Fork(task.attempt, task.scratch), (*output, theirs.fileno()))
        theirs.close()
        if task.dismissed:
            ours.close()
        else:
            task.signal = ours

    def _forked(self, template: Template, task: Task, pid: int, text: str) -> None:
        if pid == 0:
            del template.forks[task.key]
            self._hooks.not_started(task, text, Reason.ERROR)
            return
        self.holders[pid] = template, task
        self._hooks.forked(task, pid)

    def _hired(self, template: Template, worker: Worker, pid: int, text: str) -> None:
        if pid:
            worker.pid = pid
            self.holders[pid] = template, worker
            self._hooks.hired(worker)
        else:
            del template.workers[worker.number]
            self._hooks.gone(worker, None, NOTHING)

    def _exited(self, pid: int, status: int | None, usage: Usage) -> None:
        found = self.holders.pop(pid, None)
        if found is None:
            return
        template, holder = found
        template.last_used = time.monotonic()
        if isinstance(holder, Task):
            template.forks.pop(holder.key, None)
        else:
            template.workers.pop(holder.number, None)
        self._hooks.gone(holder, status, usage)

    # Ends -----------------------------------------------------------------------------------------------------

    def child_ended(self, pid: int, status: int, usage: Usage) -> bool:
        """Hear of the end of a child of the agent; False if it is none of ours."""
        template = self.pids.get(pid)
        if template is not None:
            self._template_ended(template, status)
            return True
        if pid == self.ahead:
            self.ahead = 0
            self._drop_ahead()
            return True
        if pid in self.holders:  # forked by a template that has died
            self._drain(self.holders[pid][0])
            self._exited(pid, None, of_program(usage))
            return True
        return False

    def _template_ended(self, template: Template, status: int) -> None:
        """What it had forked is dying or ours now, and will be heard of one by one."""
        self._drain(template)
        del self.pids[template.pid]
        template.pid = 0
        if not template.ready and not template.failed and not self._was_killed(template, status):
            self._failed(template, _death(status, template.capture), Reason.FAILED)
        if self._by_key.get(template.key) is template and not template.failed:
            del self._by_key[template.key]
        template.capture.close()
        self._release(template)
        if not template.busy:
            self._hang_up(template)

    def _was_killed(self, template: Template, status: int) -> bool:
        """Was the import ended from outside? Then it is worth another try."""
        if status != signal.SIGKILL:  # as wait(2) gives it
            return False
        count = self._killed[template.key] = self._killed.get(template.key, 0) + 1
        return count <= MOST_KILLED

    def _release(self, template: Template) -> None:
        """Kill what a dead template has forked and is ours now; tell of what is gone already or never was."""
        pending, template.pending = template.pending, {}
        for task in pending.values():
            self._hooks.gone(task, None, NOTHING)
        ours = set(processes.own_children())
        for pid, (each, _) in list(self.holders.items()):
            if each is template and pid in ours:
                processes.kill_child(pid)
            elif each is template:
                self._exited(pid, None, NOTHING)
        for task in [each for each in template.forks.values() if each.pid == 0]:
            del template.forks[task.key]
            self._hooks.gone(task, None, NOTHING)
        for worker in [each for each in template.workers.values() if each.pid == 0]:
            del template.workers[worker.number]
            self._hooks.gone(worker, None, NOTHING)

    def _failed(self, template: Template, text: str, fault: Reason) -> None:
        template.failed, template.fault = text, fault
        template.last_used = time.monotonic()
        pending, template.pending = template.pending, {}
        for task in pending.values():
            self._hooks.not_started(task, text, fault)
        for worker in list(template.workers.values()):
            del template.workers[worker.number]
            self._hooks.gone(worker, None, NOTHING)


def _death(status: int, capture: Capture) -> str:
    """How the importing process ended, and the last it said."""
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    last = capture.err.read(4096)[0].decode("utf-8", "replace").strip()
    text = f"the process that imports the workflow {how}"
    return f"{text}:\n{last}" if last else text
