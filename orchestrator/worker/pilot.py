"""A worker that is an agent: for many attempts, which leaders hand over to it by the network.

What it is made of is what the agent of a host is made of, with the directories of a worker. It ends when its time is
over, when its batch system says so, when a leader gives it back, or when nobody has needed it for a while. What it
still runs is LOST then, which costs nothing; what has ended stands in its journal, for leaders that have not heard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping

import msgspec

from orch.adapters.contract import RunInfo
from orch.agent.admission import Admission
from orch.agent.assemble import latest_epoch, same_directory
from orch.agent.captures import Captures
from orch.agent.core import Agent
from orch.agent.epilogues import Epilogues
from orch.agent.execution import Execution
from orch.agent.journal import Journal
from orch.agent.linux import boot_id
from orch.agent.loop import Loop
from orch.agent.monitor import Monitor
from orch.agent.pilots import Door, listen, names_of
from orch.agent.ports import Parts
from orch.agent.rooms import Room, Rooms
from orch.agent.scratch import Scratch
from orch.agent.templates import Templates
from orch.agent.totals import Totals, host_totals
from orch.agent.workers import Workers
from orch.attempt import Attempt, Outcome, Place, Reason
from orch.bus.identity import utc_now
from orch.environment import unpacked
from orch.errors import AdapterError
from orch.store.file import FileStore
from orch.worker.assemble import NoLeftovers, complain, mark
from orch.worker.deputy import GONE
from orch.worker.nodes import Directories, Node
from orch.worker.pilot_ends import Ends
from orch.worker.pilot_files import Address, PilotFiles, PilotOrders
from orch.worker.serve import Worker, hear_warnings, pids
from orch.worker.spool import Header
from orch.worker.surroundings import environment_of
from orch.worker.suspension import Suspension

LAST = 5.0
"""Seconds before the end of its time in which it ends what it runs, at most; of a short one, a part."""

LAST_PART = 0.02


class Pilot:
    """One pilot, from its claim to its end. Raises `OSError`, `ValueError`, `AdapterError` where it cannot be one."""

    def __init__(self, worker: Worker, header: Header, attempt: Attempt) -> None:
        self._spool, self._ticket, self._claim, self._front = worker
        self._header = header
        self._attempt = attempt
        self._orders = msgspec.json.decode(attempt.body.data, type=PilotOrders)
        self._files = PilotFiles(self._spool)
        self._here = dict(os.environ)
        self._signal = 0
        self._why = "nobody needed it any more"
        self._loop = Loop()

    def run(self) -> Outcome:
        """Be the agent until it is over."""
        began = time.time()
        with contextlib.ExitStack() as stack:
            node = Node(self._spool, self._ticket, self._claim.host, self._header.work_dir)
            stack.callback(node.leave)
            os.environ.clear()
            os.environ.update(self._environment(self._header.epoch))
            node.inherit()
            listening = stack.enter_context(listen(self._orders.address))
            agent, execution = self._assemble(node.directories)
            ends = execution.listener = Ends(self._loop, agent)
            Door(self._loop, listening, self._files.secret(self._name), agent.accept, complain)
            hear_warnings(self._loop, self._front.warnings, lambda number: self._warned(agent, ends, number))
            Suspension(self._loop, self._front.pid, lambda: pids(execution))
            self._write(listening, node.directories.runtime, began)
            self._end_in_time(agent)
            agent.turn()
            self._loop.run(agent.turn, execution.child_ended)
            agent.leave()
        return self._outcome()

    @property
    def _name(self) -> str:
        return self._attempt.name

    # What it is made of ---------------------------------------------------------------------------------------

    def _assemble(self, directories: Directories) -> tuple[Agent, Execution]:
        store, host, name, loop = self._spool.store, self._claim.host, mark(), self._loop
        rooms = Rooms(store, host)
        scratch = Scratch(directories.runtime, directories.kept)
        place = Place(store, scratch.root, host, directories.deferred)
        rooms.use(directories.runtime, Room(scratch, Captures(directories.runtime), place))
        execution = Execution(loop, FileStore(store), rooms, agent=name, host=host)
        execution.templates = Templates(loop, execution, name, store)
        execution.epilogues = Epilogues(loop, name, store, directories.deferred)
        totals = self._totals(directories.runtime)
        execution.workers = Workers(execution.templates, most_idle=max(2, int(totals.cores)))
        execution.admission = Admission(totals, execution.workers.room)
        agent = execution.listener = Agent(self._parts(rooms, execution))
        execution.epilogues.recover(ours=True)
        return agent, execution

    def _totals(self, runtime: str) -> Totals:
        """What was asked for; and where that was not said, what there is."""
        asked, there = self._attempt.resources, host_totals(runtime)
        return Totals(
            cores=asked.cores,
            memory=min(asked.memory, there.memory) if asked.memory else there.memory,
            disk=there.disk,
            devices=there.devices if asked.accelerators else (),
        )

    def _parts(self, rooms: Rooms, execution: Execution) -> Parts:
        store, boot = self._spool.store, boot_id()
        return Parts(
            host=self._claim.host,
            pid=os.getpid(),
            boot=boot,
            monotonic=time.monotonic,
            boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            linger=self._orders.idle,
            loop=self._loop,
            rooms=rooms,
            execution=execution,
            admission=execution.admission,
            journal=Journal(self._files.journal(self._name), boot, os.getpid()),
            leftovers=NoLeftovers(),
            latest_epoch=lambda run: latest_epoch(store, run),
            running=Monitor(self._loop, execution).wake,
            complain=complain,
            store=store,
            store_is_there=same_directory(store),
            adapted=self._adapted,
            own=self._attempt.key,
        )

    def _adapted(self, info: RunInfo) -> RunInfo:
        """With the run's environment, which does not come by the network."""
        return msgspec.structs.replace(info, environment=self._environment(info.epoch))

    def _environment(self, epoch: int) -> Mapping[str, str]:
        return environment_of(unpacked(self._spool.read_environment(epoch)), self._here)

    # Where it is, and how long --------------------------------------------------------------------------------

    def _write(self, listening: socket.socket, runtime: str, began: float) -> None:
        walltime = self._attempt.resources.walltime
        address = Address(
            names=names_of(listening),
            port=listening.getsockname()[1],
            runtime=runtime,
            host=self._claim.host,
            since=began,
            until=began + walltime if walltime else 0.0,
        )
        self._files.write_address(self._name, address)
        self._spool.put_started(self._ticket, self._claim)

    def _end_in_time(self, agent: Agent) -> None:
        walltime = self._attempt.resources.walltime
        if walltime:
            self._loop.after(walltime - min(LAST, LAST_PART * walltime), lambda: self._end(agent, "its time was over"))

    def _end(self, agent: Agent, why: str) -> None:
        self._why = why
        agent.end(self._shown(why))

    def _shown(self, why: str) -> str:
        return f"its pilot {self._name} has ended: {why}"

    def _warned(self, agent: Agent, ends: Ends, number: int) -> None:
        said = "killed it" if number == GONE else f"sent {signal.Signals(number).name}"
        self._signal = self._signal or number
        why = f"its batch system {said}"
        ends.warned(self._shown(why))
        self._end(agent, why)

    def _outcome(self) -> Outcome:
        """A signal is the batch system's to explain."""
        reason = Reason.KILLED if self._signal else Reason.FINISHED
        return Outcome(
            key=self._attempt.key,
            reason=reason,
            exit_code=None if self._signal else 0,
            signal=self._signal,
            message=self._why,
            host=self._claim.host,
            ended=utc_now(),
        )


def be_pilot(worker: Worker, header: Header, attempt: Attempt) -> Outcome:
    """Be one. Why that could not be is its outcome, too."""
    host = worker.claim.host
    try:
        return Pilot(worker, header, attempt).run()
    except (OSError, AdapterError, ValueError) as error:
        why = f"the pilot on {host} cannot work: {error}"
        return Outcome(key=attempt.key, reason=Reason.ERROR, message=why, host=host, ended=utc_now())
