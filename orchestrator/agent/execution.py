"""Attempts from their start to their end, with everything that descends from them.

The agent is the parent of commands and of templates, and adopts what is orphaned below it. So the end of an attempt is:
its own process ends, by itself or killed; what it leaves running becomes the agent's child; each child that bears the
mark of an attempt which is over is killed, and again for what that leaves; once there is none, the attempt has ended.
"""

from __future__ import annotations

import dataclasses
import time

import msgspec

from orch.agent import devices, processes
from orch.agent.admission import Admission
from orch.agent.commands import CannotStart, Commands
from orch.agent.epilogues import Epilogues
from orch.agent.loop import Loop
from orch.agent.model import Phase, Task, template_key
from orch.agent.outcomes import CHAOS, add_usage, conclude, of_program, verdict_of_fork, verdict_of_status
from orch.agent.patience import PATIENCE
from orch.agent.ports import Listener
from orch.agent.rooms import Rooms
from orch.agent.tags import tag_of
from orch.agent.templates import Templates, Worker
from orch.agent.workers import Hired, Workers
from orch.attempt import Note, Outcome, Reason
from orch.bus.events import Usage
from orch.bus.identity import utc_now
from orch.errors import StoreError
from orch.store.file import FileStore
from orch.work import spares
from orch.work.surroundings import scratch_name

STUBBORN = 10.0
"""Seconds after which an attempt counts as ended although something of it cannot be killed (a hung disk, mostly)."""


GRACE = 10.0
"""Seconds for which a service that is up may stop by itself before it is killed."""

GENTLE = {Reason.KILLED, Reason.MAXJOBDURATION}
"""Ends before which a service may stop by itself."""

LOOKS = 25
"""How often a process without an environment is looked at again, some milliseconds apart."""


@dataclasses.dataclass(slots=True)
class Stray:
    """A child without a mark: the attempts that it may be of, and how often it was looked at."""

    suspects: set[str]
    looks: int = 0


class Execution:
    """All attempts of an agent that have been let in.

    `grace`: seconds between SIGTERM and SIGKILL where an attempt is ended on request; 0: only services are asked first.
    """

    def __init__(
        self, loop: Loop, store: FileStore, rooms: Rooms, *, agent: str, host: str, grace: float = 0.0
    ) -> None:
        self._loop = loop
        self._store = store
        self._rooms = rooms
        self._agent = agent
        self._host = host
        self._grace = grace
        self._commands = Commands(agent, store)
        self.listener: Listener
        self.templates: Templates
        self.workers: Workers
        self.admission: Admission
        self.epilogues: Epilogues
        self.tasks: dict[str, Task] = {}
        self._pids: dict[int, Task] = {}
        self._marks: dict[str, Task] = {}
        self._ending: dict[str, Task] = {}
        self._services: dict[tuple[str, int], Task] = {}  # those that have come up, by run and job
        self._strays: dict[int, Stray] = {}
        self._owners: dict[int, Task] = {}  # of strangers, as far as their marks were seen
        self._sweep_wanted = False
        self._early: dict[str, list[Note]] = {}  # what was said by attempts that are not known to run

    # Starting -------------------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """Start an attempt whose turn it is."""
        task.phase = Phase.HANDED
        mask = devices.mask(self.admission.totals.devices, task.devices)
        if mask:
            task.attempt = msgspec.structs.replace(task.attempt, env={**task.attempt.env, **mask})
        self.tasks[task.key] = task
        self._marks[tag_of(self._agent, task.key)] = task
        try:
            if task.attempt.program:
                self._start_command(task)
            else:
                self._start_python(task)
        except CannotStart as error:
            self._refuse(task, Reason.FAILED, str(error), error.exit_code)
        except (OSError, StoreError, msgspec.MsgspecError) as error:
            self._refuse(task, Reason.ERROR, f"it cannot be started: {error}")

    def _start_command(self, task: Task) -> None:
        task.scratch = task.run.space.scratch.lend()
        task.capture = task.run.space.captures.take(task.attempt.max_log, task.key)
        pid = self._commands.start(task.attempt, task.run.environment, task.scratch, task.capture)
        self._pids[pid] = task
        self._began(task, pid)

    def _start_python(self, task: Task) -> None:
        attempt = task.attempt
        template = self.templates.template(template_key(task.run, attempt), task.run, attempt.bundle, attempt.cwd)
        if attempt.form != "pool":
            task.scratch = task.run.space.scratch.lend()
            task.capture = task.run.space.captures.take(attempt.max_log, task.key)
            self.templates.fork(template, task)
            return
        task.scratch = task.run.space.scratch.path(scratch_name(task.key))
        if template.failed:
            self.not_started(task, template.failed, template.fault)
        elif self.workers.give(task, template):
            self.hired(task.place)  # type: ignore[arg-type] # `give` has set it

    def _refuse(self, task: Task, reason: Reason, message: str, exit_code: int | None = None) -> None:
        task.verdict = Outcome(key=task.key, reason=reason, message=message, exit_code=exit_code)
        self._over(task)

    def _began(self, task: Task, pid: int) -> None:
        task.phase = Phase.RUNNING
        task.pid = pid
        task.started_at = time.monotonic()
        task.since = utc_now()
        self._set_timer(task)
        self.listener.started(task)
        for note in self._early.pop(task.key, ()):
            self.said(note)
        if task.kill is not None:
            self._kill(task)

    def _set_timer(self, task: Task) -> None:
        """For the end of its wall time, or the one that was meant for it."""
        walltime, doom = task.attempt.resources.walltime, task.attempt.doom
        if doom and not 0 < walltime < doom:
            task.timer = self._loop.after(doom, lambda: self.stop(task, Reason.LOST, CHAOS))
        elif walltime:
            task.timer = self._loop.after(
                walltime, lambda: self.stop(task, Reason.MAXJOBDURATION, f"ran longer than {walltime:g} s")
            )

    # Ending on request ----------------------------------------------------------------------------------------

    def stop(self, task: Task, reason: Reason, why: str) -> None:
        """End an attempt, for this reason, wherever it stands."""
        if task.phase in (Phase.ENDING, Phase.ENDED) or task.kill is not None:
            return
        task.kill, task.why = reason, why
        if task.phase is Phase.QUEUED:
            self.admission.remove(task)
            self._over(task)
        elif task.phase is Phase.RUNNING and task.up is not None and task.verdict is None and reason in GENTLE:
            self._tell_to_stop(task)
            self._kill_later(task, self._grace or GRACE)
        elif task.phase is Phase.RUNNING and self._grace and reason is Reason.KILLED:
            processes.terminate(self.pids_of(task))
            self._kill_later(task, self._grace)
        elif task.phase is Phase.RUNNING:
            self._kill(task)
        elif self.templates.withdraw(task):
            self._over(task)
        elif isinstance(task.place, Hired) and task.place.inflight[0] is not task:
            self._take_back(task.place)

    def _kill_later(self, task: Task, seconds: float) -> None:
        task.farewell = True
        self._loop.after(seconds, lambda: self.hurry(task))

    def hurry(self, task: Task) -> None:
        """End it at once, if it still runs."""
        if task.phase is Phase.RUNNING:
            self._kill(task)

    def dismiss(self, task: Task) -> None:
        """Tell a service to stop by itself. One that is not up yet hears it when it is; one that hangs is ended."""
        if not task.dismissed:
            self._tell_to_stop(task)
            self._loop.after(PATIENCE, lambda: self._lose_patience(task))

    def _lose_patience(self, task: Task) -> None:
        if task.phase in (Phase.QUEUED, Phase.HANDED):
            self._loop.after(PATIENCE, lambda: self._lose_patience(task))
        else:
            self.stop(task, Reason.FAILED, f"it was told to stop, and has not stopped in {PATIENCE:g} s")

    def _tell_to_stop(self, task: Task) -> None:
        task.dismissed = True
        if task.signal is not None:
            task.signal.close()
            task.signal = None

    def _kill(self, task: Task) -> None:
        if task.pid in self._pids:
            processes.kill_child(task.pid)
        elif isinstance(task.place, Hired):
            worker = task.place
            self._take_back(worker)
            if len(worker.inflight) == 1 and worker.inflight[0] is task:
                worker.doomed = True
                self.templates.kill(worker)  # else it was not taken yet, or is over and the next one was taken
        else:
            self.templates.kill(task)

    def _take_back(self, worker: Hired) -> None:
        """Queue again what waits in a worker; end what is not wanted of it."""
        tasks = self.workers.take_back(worker)
        if tasks and tasks[0].phase is Phase.RUNNING and tasks[0].kill is None:
            worker.give(tasks.pop(0))  # the worker was about to take it
        for task in reversed(tasks):
            self._requeue(task)

    def _requeue(self, task: Task) -> None:
        task.place = None
        if task.kill is not None:
            self._over(task)
            return
        if task.timer is not None:
            task.timer.cancel()
        task.phase, task.timer, task.started_at = Phase.QUEUED, None, 0.0
        self.admission.release(task)
        self.admission.add(task, first=True)

    def relieve(self, now: float) -> None:
        """Find another worker for what waits behind a slow attempt."""
        for worker in self.workers.slow(now):
            self._take_back(worker)

    # What templates and workers tell --------------------------------------------------------------------------

    def forked(self, task: Task, pid: int) -> None:
        """A fork runs."""
        self._began(task, pid)

    def hired(self, worker: Worker) -> None:
        """A worker is there: its first attempt runs."""
        assert isinstance(worker, Hired)
        if worker.pid and worker.inflight and worker.inflight[0].phase is Phase.HANDED:
            self._began(worker.inflight[0], worker.pid)

    def not_started(self, task: Task, message: str, reason: Reason) -> None:
        """The template could not do it."""
        self._refuse(task, reason, message)

    def said(self, note: Note) -> None:
        """An attempt said something."""
        task = self.tasks.get(note.key)
        if (
            task is not None and task.phase is Phase.HANDED
        ):  # quicker than its template, which has yet to say that it runs
            self._early.setdefault(task.key, []).append(note)
        elif task is not None and task.live:
            if note.kind == "up":
                self._services[task.run.name, task.attempt.job] = task
            self.listener.noted(task, note)

    def left(self, outcome: Outcome) -> None:
        """A Python body is over. A fork's process will end in a moment; a worker goes on."""
        task = self.tasks.get(outcome.key)
        if task is None or not task.live:
            return
        task.verdict = outcome
        if isinstance(task.place, Hired):
            worker = task.place
            add_usage(task, outcome.usage)
            following = self.workers.done(task, outcome.usage.wall)
            if following is not None:
                self.admission.hand_on(task, following, time.monotonic())
            self._over(task)
            if following is not None:
                self._began(following, worker.pid)

    def gone(self, holder: Task | Worker, status: int | None, usage: Usage) -> None:
        """A fork or a worker has ended."""
        if isinstance(holder, Task):
            self._suspect(holder, status)
            add_usage(holder, usage)
            holder.verdict = holder.verdict or verdict_of_fork(holder.key, status)
            self._over(holder)
            return
        assert isinstance(holder, Hired)
        taken, behind = self.workers.gone(holder)
        if behind and not taken and not holder.proven and status is not None:  # it would be so again and again
            self._refuse(behind.pop(0), Reason.ERROR, f"a warm worker ended at once (status {status})")
        for task in reversed(behind):
            self._requeue(task)
        for task in taken:
            self._suspect(task, status)
            task.verdict = verdict_of_fork(task.key, status)
            task.capture = holder.capture if task is taken[0] else None
            self._over(task)
        if not taken:
            holder.capture.close()

    def _suspect(self, task: Task, status: int | None) -> None:
        """It was lost with its template, which it may have killed: the next time it gets one of its own."""
        if status is None and task.phase is Phase.RUNNING:
            task.run.suspects.add(task.attempt.job)

    def child_ended(self, pid: int, status: int, usage: Usage) -> None:
        """A child of the agent has ended."""
        self._sweep_wanted = True
        task = self._pids.pop(pid, None)
        if task is not None:
            add_usage(task, of_program(usage))
            task.verdict = verdict_of_status(task.key, status)
            self._over(task)
        elif not self._rooms.child_ended(pid, status) and not self.epilogues.child_ended(pid, status):
            self.templates.child_ended(pid, status, usage)
            self._strays.pop(pid, None)
            owner = self._owners.pop(pid, None)
            if owner is not None:
                add_usage(owner, of_program(usage))

    # The end --------------------------------------------------------------------------------------------------

    def _over(self, task: Task) -> None:
        """Nothing of the attempt runs any more but what it may have left behind."""
        if task.timer is not None:
            task.timer.cancel()
            task.timer = None
        for note in self._early.pop(task.key, ()):
            self.listener.noted(task, note)
        task.phase = Phase.ENDING
        task.ended_at = time.monotonic()
        self._ending[task.key] = task

    def sweep(self) -> None:
        """End what attempts that are over have left behind, and the attempts that have nothing left."""
        if not self._ending and not self._sweep_wanted:
            return
        self._sweep_wanted = False
        held = self._kill_leftovers()
        if self._loop.child_pending:  # the list of children may lack one, where another ended meanwhile (proc(5))
            return
        now = time.monotonic()
        for task in list(self._ending.values()):
            if task.key in held and now - task.ended_at <= STUBBORN:
                continue
            if not self._defers(task) and not self._failed_with_a_service(task):
                del self._ending[task.key]
                self._finish(task)

    def _failed_with_a_service(self, task: Task) -> bool:
        """Has it failed when a service that it uses had died, and has nobody been told of that yet?

        The service's end is told first: then the leader knows whose fault it was.
        """
        if task.kill is not None or task.verdict is None or task.verdict.reason is Reason.FINISHED:
            return False
        used = (self._services.get((task.run.name, job)) for job in task.attempt.values)
        return any(service is not None and self._has_died(service) for service in used)

    def _has_died(self, service: Task) -> bool:
        """Also if that is not known yet: a process loses its memory before its files and sockets (Linux, do_exit)."""
        return service.phase is Phase.ENDING or processes.has_no_environment(service.pid)

    def _defers(self, task: Task) -> bool:
        """Is something to be done, or being done, that the attempt has deferred to its end?"""
        if task.deferring:
            return self.epilogues.holds(task.key)
        if not task.started_at or task.attempt.program or not self.epilogues.wanted(task):
            return False
        task.deferring = True
        if task.capture is None:
            task.epilogue = task.run.space.captures.take(task.attempt.max_log)
        return self.epilogues.begin(task)

    def _kill_leftovers(self) -> set[str]:
        """Kill strangers among our children that belong to no live attempt; the ended ones that may have some."""
        held: set[str] = set()
        for pid in self.strangers():
            mark = processes.tag(pid)
            task = self._marks.get(mark)
            if task is not None:
                self._owners[pid] = task
            if not mark.startswith(f"{self._agent}:"):
                held |= self._judge_unmarked(pid)
            elif task is None or task.phase is Phase.ENDING:
                processes.kill_child(pid)
                if task is not None:
                    task.left_behind = True
                    held.add(task.key)
        return held

    def _judge_unmarked(self, pid: int) -> set[str]:
        """Without a mark, a stranger may be of any attempt that was live when it was first seen.

        It is killed once none of them runs any more; those that are over wait for its end. A process that is just
        executing a program shows no environment at all: such ones are looked at again first.
        """
        stray = self._strays.get(pid)
        if stray is None:
            suspects = {task.key for task in self.tasks.values() if task.phase in (Phase.RUNNING, Phase.ENDING)}
            stray = self._strays[pid] = Stray(suspects)
        over = stray.suspects & self._ending.keys()
        if stray.looks < LOOKS and processes.has_no_environment(pid):
            stray.looks += 1
            self._look_again()
        elif not any(self.tasks[key].phase is Phase.RUNNING for key in stray.suspects & self.tasks.keys()):
            processes.kill_child(pid)
            for key in over:
                self._ending[key].left_behind = True
        else:
            return set()
        return over

    def _look_again(self) -> None:
        def wanted() -> None:
            self._sweep_wanted = True

        self._loop.after(0.002, wanted)

    def strangers(self) -> list[int]:
        """Our children that we have not started: orphans that we were given."""
        templates = self.templates
        known = (self._pids, templates.pids, templates.holders, (templates.ahead,), self.epilogues.pids)
        unknown = [pid for pid in processes.own_children() if not any(pid in each for each in known)]
        return [pid for pid in unknown if not self._rooms.is_helper(pid)] if unknown else unknown

    def _finish(self, task: Task) -> None:
        self._tell_to_stop(task)
        if task.scratch and not task.left_behind and task.run.space.scratch.take_back(task.scratch):
            task.scratch = ""
        outcome = conclude(task, self._store, self._host)
        if task.capture is not None:
            task.run.space.captures.give_back(task.capture, reuse=not task.left_behind)
            task.capture = None
        if task.epilogue is not None:
            task.epilogue.close()
            task.epilogue = None
        if task.scratch:
            self._clear(task, outcome.reason)
        self.admission.release(task)
        self._marks.pop(tag_of(self._agent, task.key), None)
        self.tasks.pop(task.key, None)
        if task.up is not None:
            self._services.pop((task.run.name, task.attempt.job), None)
            self._look_again()  # there may be some that waited for this
        task.phase = Phase.ENDED
        task.place = None
        task.outcome = outcome
        self.listener.finished(task, outcome)

    def _clear(self, task: Task, reason: Reason) -> None:
        """Remove its scratch directory, or say where that is kept."""
        if not task.attempt.keeps_scratch(reason):
            task.run.space.scratch.remove(task.scratch)
        elif kept := task.run.space.scratch.keep(task.scratch, scratch_name(task.key)):
            self.listener.noted(task, Note(task.key, "annotate", name=spares.NOTE, value=kept))

    @property
    def running(self) -> list[Task]:
        """Attempts that run, or end."""
        return [task for task in self.tasks.values() if task.phase in (Phase.RUNNING, Phase.ENDING)]

    @property
    def idle(self) -> bool:
        """Is nothing running, and nothing on its way?"""
        return not self.tasks and not self._ending and not self.catching_up

    @property
    def catching_up(self) -> bool:
        """Is it still being done what attempts of an earlier agent have deferred to their end?"""
        return self.epilogues.catching_up

    def pids_of(self, task: Task) -> list[int]:
        """The processes of a running attempt, orphans of it that are our children among them."""
        found = processes.tree(task.pid)
        mark = tag_of(self._agent, task.key)
        for pid in self.strangers():
            if processes.tag(pid) == mark:
                self._owners[pid] = task
                found.extend(processes.tree(pid))
        return list(dict.fromkeys(found))

    def retire(self, now: float) -> None:
        """End workers and templates that have been idle for long."""
        self.workers.retire(now)
        self.templates.retire(now)

    def close(self) -> None:
        """End templates and workers; nothing runs any more."""
        for worker in list(self.workers.all.values()):
            worker.close()
        self.templates.close()
        self._rooms.close()
