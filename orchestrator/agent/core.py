"""The agent: starts attempts of many runs when there is room, and keeps their outcomes until a leader has them.

For each run it listens to the leader of the highest epoch only. An attempt is known by its key: submitting it twice, or
asking about it after the leader or the agent was replaced, never starts it twice.
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from orch.adapters.contract import Finished, Queued, RunInfo, Started, Unknown, Update
from orch.agent import protocol
from orch.agent.chains import Chains, has_values, passes_on, with_value
from orch.agent.connections import Connection, Stream
from orch.agent.devices import counted
from orch.agent.journal import Accepted, Acknowledged, Begun, Ended
from orch.agent.model import Phase, Run, Shape, Task, template_key
from orch.agent.news import News, presses
from orch.agent.ports import Parts, Timer
from orch.agent.rooms import Room
from orch.agent.standstill import Standstill
from orch.attempt import Attempt, Note, Outcome, Reason

SETTLE = 1024 * 1024
"""Bytes that a journal may have although nothing in it is outstanding."""

FIRST = 10.0
"""Seconds that a new agent waits at least for whoever started it."""

RETIRE = 5.0
"""Seconds between looks for templates and workers that are not needed any more."""


class Agent:
    """One agent, until it is told to end or nobody needs it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._rooms = parts.rooms
        self._execution = parts.execution
        self._admission = parts.admission
        self._journal = parts.journal
        self._runs: dict[str, Run] = {}
        self._epochs: dict[str, int] = {}
        self._tasks: dict[str, Task] = {}
        self._chains = Chains()
        self._standstill = Standstill(parts.admission)
        self._fresh: dict[Run, list[str]] = {}
        self._connections: dict[Connection, None] = {}  # in the order in which they came
        self._news = News(parts.loop)
        self._sync = False
        self._ending = ""
        self._leaving: Timer | None = None
        self._was_needed = False
        self._trouble = ""
        self._recover()
        self._loop.after(RETIRE, self._retire)

    def leave(self) -> None:
        """Let go of everything, once the loop has stopped."""
        for connection in list(self._connections):
            connection.close()
        self._execution.close()
        with contextlib.suppress(OSError):
            self._journal.write(sync=True)
            self._journal.settle()
            self._journal.write()
        self._journal.close()

    def end(self, why: str = "its agent was told to end") -> None:
        """End all attempts as LOST, and then leave."""
        self._ending = self._ending or why

    # What an earlier agent left -------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Outcomes are kept for their leaders. What was not finished is ended if it still runs, and LOST."""
        left = self._parts.leftovers.end_marked()
        if left:
            self._parts.complain(f"these processes of an earlier agent cannot be ended: {left}")
        rebooted = self._journal.boot != self._parts.boot
        void: set[str] = set()
        for key, entry in list(self._journal.outstanding.items()):
            outcome = entry.outcome
            before = self._journal.outstanding.get(entry.after)
            ended = before.outcome if before is not None else None
            if outcome is None and (entry.after in void or (ended is not None and not passes_on(ended))):
                void.add(key)  # a link of a chain, as its leader knows
                self._journal.stage(Acknowledged([key]))
                continue
            if outcome is None:
                if entry.pid and not rebooted:
                    self._parts.leftovers.end_started_about(entry.pid, entry.since)
                why = "the machine was started anew" if rebooted else "the agent died"
                when = "while it ran" if entry.pid else "before it was known to run"
                outcome = Outcome(key=key, reason=Reason.LOST, message=f"{why} {when}", host=self._parts.host)
                self._journal.stage(Ended(outcome))
            self._run(entry.run).kept[key] = outcome
        self._journal.settle()
        self._write_journal()

    # Leaders --------------------------------------------------------------------------------------------------

    def accept(self, stream: Stream) -> Connection:
        """Somebody has connected."""
        connection = Connection(stream, self)
        self._connections[connection] = None
        return connection

    def closed(self, connection: Connection) -> None:
        """A leader is gone; its run's attempts go on."""
        self._connections.pop(connection, None)
        run = connection.run
        if run is not None and run.connection is connection:
            run.connection = None
            self._sync = True
            self._forget(run)

    def heard(self, connection: Connection, message: protocol.FromLeader) -> None:
        """A message of a leader, or a question of an observer."""
        run = connection.run
        if isinstance(message, protocol.Hello):
            self._hello(connection, message)
        elif run is None and isinstance(message, protocol.Ask):
            connection.send(self._answer(self._tasks.get(message.key), message))
        elif run is None or run.connection is not connection:
            connection.refuse("say hello first")
        elif isinstance(message, protocol.StandStill):
            connection.still = message.heard
            self._standstill.said(run)
        else:
            self._request(run, connection, message)

    def _request(self, run: Run, connection: Connection, message: protocol.FromLeader) -> None:
        match message:
            case protocol.Submit(attempts):
                self._submit(run, attempts)
            case protocol.Cancel(keys):
                self._cancel(run, keys)
            case protocol.StopServices(keys):
                self._stop_services(run, keys)
            case protocol.Withdraw(keys, ask):
                self._withdraw(run, keys, ask)
            case protocol.Limit():
                self._limit(run, connection, message)
            case protocol.Acknowledge(keys):
                self._acknowledge(run, keys)
            case protocol.Find(keys, ask):
                self._find(run, keys, ask)
            case protocol.Ask():
                connection.send(self._answer(run.tasks.get(message.key), message))
            case _:
                connection.close()

    def _hello(self, connection: Connection, message: protocol.Hello) -> None:
        info = message.said()
        if message.version != protocol.VERSION:
            connection.refuse(f"the agent speaks version {protocol.VERSION}, and the leader {message.version}")
            return
        if self._parts.store not in ("", info.store):
            connection.refuse(f"it serves the store {self._parts.store}, and not {info.store}")
            return
        latest = max(self._epochs.get(info.run, 0), self._parts.latest_epoch(info.run))
        if info.epoch < latest:
            connection.refuse(f"run {info.run} is led by epoch {latest}, and this is {info.epoch}", fenced=True)
            return
        try:
            room = self._rooms.room(message.runtime)
        except OSError as error:
            connection.refuse(f"the work directory {message.runtime} cannot be used: {error.strerror or error}")
            return
        try:
            info = self._parts.adapted(info)
        except (OSError, ValueError) as error:
            connection.refuse(f"what it needs to know of the run cannot be read: {error}")
            return
        self._epochs[info.run] = info.epoch
        run = self._run(info.run)
        if run.connection is not None and run.connection is not connection:
            run.connection.refuse(
                f"another leader has taken over run {info.run} (epoch {info.epoch}); this one (epoch {run.epoch}) has "
                "stopped, and nothing that it did since then counts",
                fenced=info.epoch > run.epoch,
            )
        run = self._runs.setdefault(info.run, run)
        run.connection, run.epoch, run.info = connection, info.epoch, info
        run.room = room
        run.template = _template_part(info, room)
        connection.run = run
        connection.send(self._welcome(run))

    def _welcome(self, run: Run) -> protocol.Welcome:
        limits, beyond = self._admission.limits(run), self._admission.everything
        return protocol.Welcome(
            self._parts.pid, self._parts.host, limits.cores, limits.memory, limits.disk, counted(limits.devices), beyond
        )

    def _limit(self, run: Run, connection: Connection, wanted: protocol.Limit) -> None:
        """What runs goes on, and what waits for more than there is now may wait for another change."""
        assert run.info is not None  # it has said hello
        run.info = msgspec.structs.replace(run.info, cores=wanted.cores, memory=wanted.memory, disk=wanted.disk)
        connection.still = -1  # with other limits it may not
        connection.send(self._welcome(run))

    def _run(self, name: str) -> Run:
        return self._runs.setdefault(name, Run(name))

    def _forget(self, run: Run) -> None:
        if run.connection is None and not run.tasks and not run.kept:
            self._runs.pop(run.name, None)

    # Requests -------------------------------------------------------------------------------------------------

    def _submit(self, run: Run, attempts: list[Attempt]) -> None:
        new = []
        for attempt in attempts:
            known = self._standings(run, attempt.key)
            if known:
                self._tell(run, *known)
            elif not self._ending and not self._void(run, attempt):
                self._queue(run, attempt)
                new.append(attempt.key)
        if new:
            self._fresh.setdefault(run, []).extend(new)
            after = {each.key: each.after for each in attempts if each.after}
            self._journal.stage(Accepted(run.name, run.epoch, new, after))

    def _queue(self, run: Run, attempt: Attempt) -> None:
        if attempt.form == "pool" and attempt.resources.accelerators:
            attempt = msgspec.structs.replace(attempt, form="fork")  # a warm worker would keep the device in use
        task = Task(attempt, run, _shape(run, attempt), queued_at=self._parts.monotonic())
        run.tasks[attempt.key] = self._tasks[attempt.key] = task
        before = run.tasks.get(attempt.after)
        if before is not None and before.live and not self._chains.has(before.key):
            self._chains.add(task, before)
            return
        if before is not None and before.outcome is not None:
            task.attempt = with_value(attempt, before.attempt, before.outcome)
        self._admission.add(task)
        short = self._admission.never(task.shape)
        if short:
            self._execution.stop(task, Reason.ERROR, f"it asks for more than there is: {short}")
        elif attempt.after and not has_values(task.attempt):
            self._execution.stop(task, Reason.LOST, f"what it was chained to ({attempt.after}) is not here any more")

    def _void(self, run: Run, attempt: Attempt) -> bool:
        """Is it a link of a chain that has ended already, as its leader will see?"""
        before = run.tasks.get(attempt.after)
        outcome = run.kept.get(attempt.after) if before is None else before.outcome
        return outcome is not None and not passes_on(outcome)

    def _cancel(self, run: Run, keys: list[str]) -> None:
        for key in keys:
            task = run.tasks.get(key)
            if task is not None and task.live:
                if task.phase is Phase.LINKED:
                    self._chains.remove(task)
                    self._admission.add(task)
                self._execution.stop(task, Reason.KILLED, "ended on request")
            elif task is None and key not in run.kept:
                self._tell(run, Unknown(key))

    def _withdraw(self, run: Run, keys: list[str], ask: int) -> None:
        """Forget what has not begun, and has nothing chained to it; of all else, nothing is said."""
        for key in keys:
            task = run.tasks.get(key)
            if task is None or task.phase is not Phase.QUEUED or task.kill is not None or self._chains.has(key):
                continue
            self._admission.remove(task)
            self._forget_links(run, [task])
            self._tell(run, Unknown(key, ask))

    def _stop_services(self, run: Run, keys: list[str]) -> None:
        for key in keys:
            task = run.tasks.get(key)
            if key and key == self._parts.own:
                self.end("its leader has given the agent back")
            elif task is not None and task.live:
                self._execution.dismiss(task)
            elif task is None and key not in run.kept:
                self._tell(run, Unknown(key))

    def _acknowledge(self, run: Run, keys: list[str]) -> None:
        done = [key for key in keys if key in run.kept or (key in run.tasks and not run.tasks[key].live)]
        for key in done:
            run.kept.pop(key, None)
            run.tasks.pop(key, None)
            self._tasks.pop(key, None)
        if done:
            self._journal.stage(Acknowledged(done))

    def _find(self, run: Run, keys: list[str], ask: int) -> None:
        wanted = set(keys)
        for key in [*run.tasks, *run.kept]:
            if key not in wanted:
                self._drop(run, key)
        known = {key: place for place, key in enumerate([*run.kept, *run.tasks])}
        for key in sorted(keys, key=lambda key: known.get(key, len(known))):  # a link comes after what it follows
            if key in run.tasks:
                run.tasks[key].unwanted = False
            self._tell(run, *(self._standings(run, key) or [Unknown(key, ask)]))

    def _drop(self, run: Run, key: str) -> None:
        """Nobody wants this attempt: end it, and forget it."""
        task = run.tasks.get(key)
        if task is not None and task.phase is Phase.LINKED:
            self._chains.remove(task)
            self._forget_links(run, [task, *self._chains.void(self._chains.next(key))])
        elif task is not None and task.live:
            task.unwanted = True
            self._execution.stop(task, Reason.KILLED, "its leader does not know it")
        else:
            self._acknowledge(run, [key])

    def _standings(self, run: Run, key: str) -> list[Update]:
        """What to tell the leader of an attempt; nothing if it is not known. Of a service, its credentials too."""
        standing = self._standing(run, key)
        if isinstance(standing, Finished) and key in run.tasks:
            run.tasks[key].heard = run.connection
        up = run.tasks[key].up if isinstance(standing, Started) else None
        return [each for each in (standing, up) if each is not None]

    def _standing(self, run: Run, key: str) -> Update | None:
        """Where an attempt stands; None if nobody has heard of it."""
        if key in run.kept:
            return Finished(key, run.kept[key])
        task = run.tasks.get(key)
        if task is None:
            return None
        if task.outcome is not None:
            return Finished(key, task.outcome)
        return self._started(task) if task.phase is Phase.RUNNING else Queued(key, key)

    def _answer(self, task: Task | None, message: protocol.Ask) -> protocol.Answer:
        if task is None:
            return protocol.Answer(message.number)
        out, err = b"", b""
        capture = getattr(task.place, "capture", None) if task.attempt.form == "pool" else task.capture
        if capture is not None and task.phase in (Phase.RUNNING, Phase.ENDING):
            out, err = capture.read()
        elif task.outcome is not None:
            out, err = task.outcome.stdout.data, task.outcome.stderr.data
        return protocol.Answer(message.number, self._why(task), out, err, known=task.live)

    def _why(self, task: Task) -> str:
        if task.phase is Phase.HANDED:
            behind = task.attempt.form == "pool" and task.place is not None
            return "waits behind another in a warm worker" if behind else "its workflow is being imported"
        if task.phase is Phase.LINKED:
            return f"waits for {task.attempt.after}, in whose place it is to run"
        if task.phase is not Phase.QUEUED:
            return ""
        if self._execution.catching_up:
            return "waits until it is done what attempts of an earlier agent have deferred to their end"
        short = self._admission.waits_for(task.run, task.shape)
        return f"waits for {short}{self._standstill.of(task.run)}" if short else "waits for its turn"

    # What attempts do -----------------------------------------------------------------------------------------

    def started(self, task: Task) -> None:
        """An attempt runs."""
        self._parts.running()
        if task.attempt.form != "pool":
            self._journal.stage(Begun(task.key, task.pid, self._parts.boottime()))
        self._tell_in_order(task, self._started(task), pressing=False)

    def _started(self, task: Task) -> Started:
        return Started(task.key, self._parts.host, task.pid, task.since, str(task.pid))

    def noted(self, task: Task, note: Note) -> None:
        """It said something."""
        if note.kind == "up":
            task.up = note
        self._tell(task.run, note)

    def finished(self, task: Task, outcome: Outcome) -> None:
        """An attempt is over, and nothing of it runs."""
        run = task.run
        self._journal.stage(Ended(outcome))
        if task.unwanted:
            self._acknowledge(run, [task.key])
        else:
            goes_on = self._chains.has(task.key) and passes_on(outcome)  # then its place is not the leader's to fill
            self._tell_in_order(task, Finished(task.key, outcome), pressing=not goes_on)
            task.heard = run.connection
        self._go_on(task, outcome)
        if run.connection is None:
            self._sync = True
            self._forget(run)

    def _go_on(self, task: Task, outcome: Outcome) -> None:
        """Have what is chained after this one run in its place, or forget it."""
        link = self._chains.next(task.key)
        if link is None:
            return
        if passes_on(outcome) and not task.unwanted:
            link.attempt = with_value(link.attempt, task.attempt, outcome)
            self._admission.inherit(link, self._parts.monotonic())
        else:
            self._forget_links(task.run, self._chains.void(link), tell=task.unwanted)

    def _forget_links(self, run: Run, links: list[Task], *, tell: bool = False) -> None:
        """These are void. `tell` a leader that wants them all the same: it will ask."""
        for each in links:
            run.tasks.pop(each.key, None)
            self._tasks.pop(each.key, None)
            if tell:
                self._tell(run, Unknown(each.key))
        self._journal.stage(Acknowledged([each.key for each in links]))

    def _tell_in_order(self, task: Task, update: Update, *, pressing: bool) -> None:
        """Tell of a link of a chain after the ends of those before it, if this leader has not heard of them."""
        run, unheard = task.run, []
        before = run.tasks.get(task.attempt.after)
        while before is not None and before.outcome is not None and before.heard is not run.connection:
            unheard.append(before)
            before = run.tasks.get(before.attempt.after)
        for each in reversed(unheard):
            self._tell(run, *self._standings(run, each.key))
        if run.connection is not None:
            self._news.add(run.connection, [update], pressing=pressing)

    def _tell(self, run: Run, *updates: Update) -> None:
        if run.connection is not None:
            self._news.add(run.connection, updates, pressing=any(map(presses, updates)))

    # The end of each turn -------------------------------------------------------------------------------------

    def turn(self) -> None:
        """What there is to do once everything has been heard."""
        self._execution.sweep()
        if self._ending:
            for task in list(self._tasks.values()):
                if task.live and task.phase is not Phase.LINKED:
                    self._execution.stop(task, Reason.LOST, self._ending)
        self._write_journal()  # what was accepted is known to the next agent before it can do this one any harm
        if self._trouble:
            self._refuse_to_start()
        self._schedule()
        self._execution.sweep()
        self._say_queued()
        self._write_journal()
        self._news.tell()
        self._standstill.settle(self._runs.values(), self._connections)
        self._consider_leaving()

    def _refuse_to_start(self) -> None:
        """What is not in the journal is not started. A full disk, mostly: its leader is told, and waits for nothing."""
        for task in list(self._tasks.values()):
            if task.phase is Phase.QUEUED:
                self._execution.stop(task, Reason.ERROR, f"the agent's journal cannot be written: {self._trouble}")

    def _schedule(self) -> None:
        """Nothing starts before it is done what earlier attempts have deferred to their end."""
        now = self._parts.monotonic()
        if self._execution.catching_up:
            return
        self._standstill.look(self._runs.values())
        while self._admission.waiting and (task := self._admission.next(now)) is not None:
            self._execution.start(task)

    def _say_queued(self) -> None:
        """Left out for what has started at once: its `Started` says more."""
        for run, keys in self._fresh.items():
            for key in keys:
                task = run.tasks.get(key)
                if task is not None and task.phase in (Phase.LINKED, Phase.QUEUED, Phase.HANDED):
                    self._tell(run, Queued(key, key))
        self._fresh.clear()

    def _write_journal(self) -> None:
        try:
            self._journal.write(sync=self._sync)
            self._sync = False
            self._journal.settle(SETTLE)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._trouble:
                self._trouble = why
                self._parts.complain(f"the journal cannot be written: {why}")
        else:
            self._trouble = ""

    def _consider_leaving(self) -> None:
        live = self._admission.waiting > 0 or not self._execution.idle
        needed = live or bool(self._connections)
        if self._ending and not live:
            self._loop.stop()
        elif needed and self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        elif not needed and self._leaving is None:
            patience = self._parts.linger if self._was_needed else max(self._parts.linger, FIRST)
            self._leaving = self._loop.after(patience, self._loop.stop)
        self._was_needed |= needed

    def _retire(self) -> None:
        self._execution.retire(self._parts.monotonic())
        if not self._ending and not self._parts.store_is_there():
            self._parts.complain(f"the store {self._parts.store} was moved or deleted: its attempts are ended")
            self.end()
        self._loop.after(RETIRE, self._retire)


def _shape(run: Run, attempt: Attempt) -> Shape:
    wanted = attempt.resources
    pool = template_key(run, attempt) if attempt.form == "pool" else ""
    return Shape(wanted.cores, wanted.memory, wanted.disk, pool, wanted.accelerators)


def _template_part(info: RunInfo, room: Room) -> str:
    text = repr((sorted(info.environment.items()), info.python_path, room.place.scratch))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
