"""What a worker does, from its claim to the outcome."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from orch.adapters.contract import RunInfo
from orch.agent.execution import Execution
from orch.agent.loop import Loop
from orch.agent.model import Phase
from orch.agent.paths import host_name
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.identity import utc_now
from orch.environment import unpacked
from orch.errors import AdapterError
from orch.worker.assemble import assemble
from orch.worker.deputy import GONE, Deputy
from orch.worker.front import FAILED
from orch.worker.nodes import Node
from orch.worker.probe import probe
from orch.worker.spool import PILOT, WORKER, Claim, Header, Spool, Ticket
from orch.worker.surroundings import environment_of, given_to
from orch.worker.suspension import Suspension

UNSET = ("", "undefined")
"""What a variable holds for a task that is not one of several: Grid Engine says so (qsub(1), SGE_TASK_ID)."""


PATIENCE = 2.0
"""Seconds for which orders are looked for that are not there."""

PAUSE = 0.2


class CannotRun(Exception):
    """Why the task cannot be run, for people."""


class Variables(NamedTuple):
    """In which variables a worker finds the number of its task, and what the batch system calls it; empty: in none."""

    task: str = ""
    job: str = ""


class Front(NamedTuple):
    """The process that the batch system knows, and where is heard of its signals (see `orch.worker.front`)."""

    pid: int
    warnings: int


class Worker(NamedTuple):
    """Which task this is, and who has it."""

    spool: Spool
    ticket: Ticket
    claim: Claim
    front: Front


def serve(spool: Spool, submission: str, task: int | None, variables: Variables, front: Front) -> int:
    """Run a task of a submission; the exit code. `task` None: a variable names it."""
    os.chdir("/")
    try:
        ticket = Ticket(submission, task or _task(spool, submission, variables.task))
        _take(Worker(spool, ticket, _claim(variables.job), front))
    except (CannotRun, OSError, ValueError) as error:
        sys.stderr.write(f"orch: a task of submission {submission} of run {spool.run} cannot be run: {error}\n")
        return FAILED
    return 0


def _task(spool: Spool, submission: str, variable: str) -> int:
    said = os.environ.get(variable, "")
    if said.isdigit():
        return int(said)
    if said in UNSET and len(spool.header(submission).keys) <= 1:
        return 1
    raise CannotRun(f"{variable} is to say which of its tasks this is, and it says {said!r}")


def _claim(job_from: str) -> Claim:
    return Claim(WORKER, host_name(), os.getpid(), os.environ.get(job_from, "") if job_from else "", utc_now())


def _take(worker: Worker) -> None:
    """Claim the ticket, and do what it is for. To read the orders comes after that (see `Spool.clear`)."""
    spool, ticket, claim, front = worker
    if select.select([front.warnings], [], [], 0)[0]:
        raise CannotRun("its batch system has ended it before it had begun")
    taken = spool.claim(ticket, claim)
    if taken is not None:
        _leave_it(worker, taken)
        return
    header, attempt = _order(worker)
    if attempt is None:
        spool.put_outcome(ticket, probe(spool, ticket, claim.host))
    elif attempt.form == PILOT:
        from orch.worker.pilot import be_pilot  # few workers are one

        spool.put_outcome(ticket, be_pilot(worker, header, attempt))
    else:
        _run(worker, header, attempt)


def _order(worker: Worker) -> tuple[Header, Attempt | None]:
    """What there is to do. A file server may take a moment until it shows what is there."""
    for _ in range(int(PATIENCE / PAUSE)):
        with contextlib.suppress(FileNotFoundError):
            return worker.spool.order(worker.ticket)
        time.sleep(PAUSE)
    worker.spool.unclaim(worker.ticket)
    raise CannotRun("its orders are not there (any more)")


def _leave_it(worker: Worker, taken: Claim) -> None:
    """Somebody has it. If that was this job in a former life, nobody will say what became of it but this one."""
    spool, ticket, claim, _ = worker
    sys.stderr.write(f"orch: {ticket} is not run here: {_shown(taken)} has it, since {taken.since}\n")
    again = taken.by == WORKER and taken.job == claim.job != ""
    if again and spool.outcome(ticket) is None and not spool.is_held(str(ticket)):
        keys = spool.header(ticket.submission).keys or [str(ticket)]
        key = keys[ticket.task - 1]
        why = f"its batch system has started it again: it had been started on {taken.host}"
        spool.put_outcome(ticket, Outcome(key=key, reason=Reason.LOST, message=why, host=taken.host, ended=utc_now()))


def _shown(claim: Claim) -> str:
    return f"process {claim.pid} on {claim.host} (job {claim.job or 'unknown'})" if claim.by == WORKER else "its leader"


def _run(worker: Worker, header: Header, attempt: Attempt) -> None:
    """Run the attempt. What keeps it from being started is its outcome; what happens later is ours to say."""
    with contextlib.ExitStack() as stack:
        try:
            serving = _prepared(worker, header, attempt, stack)
        except (OSError, AdapterError, ValueError) as error:
            host = worker.claim.host
            why = f"the worker on {host} cannot run it: {error}"
            outcome = Outcome(key=attempt.key, reason=Reason.ERROR, message=why, host=host, ended=utc_now())
            worker.spool.put_outcome(worker.ticket, outcome)
        else:
            serving()


def _prepared(worker: Worker, header: Header, attempt: Attempt, stack: contextlib.ExitStack) -> Callable[[], None]:
    """What is agent and leader of the attempt until its outcome is there. Its directories go with the `stack`."""
    spool, ticket, claim, _ = worker
    info = _info(spool, header)
    node = Node(spool, ticket, claim.host, header.work_dir)
    stack.callback(node.leave)
    os.environ.clear()
    os.environ.update(info.environment)
    node.inherit()
    loop = Loop()
    output = spool.path("output", str(ticket))
    agent, execution = assemble(loop, spool.store, claim.host, node.directories, output, header.grace)

    def hurry(key: str) -> None:
        task = execution.tasks.get(key)
        if task is not None:
            execution.hurry(task)

    deputy = Deputy(loop, spool, ticket, claim, hurry)
    hear_warnings(loop, worker.front.warnings, lambda number: deputy.warned(number, time.monotonic()))
    Suspension(loop, worker.front.pid, lambda: pids(execution))

    def serve() -> None:
        deputy.hand_over(agent, info, node.directories.runtime, _adapted(attempt))
        agent.turn()
        loop.run(agent.turn, execution.child_ended)
        agent.leave()
        if deputy.failure:
            raise CannotRun(f"its outcome cannot be written: {deputy.failure}")

    return serve


def pids(execution: Execution) -> Iterator[int]:
    """Of all that its attempts have."""
    for task in execution.running:
        if task.phase is Phase.RUNNING:  # else its pid may be another's
            yield from execution.pids_of(task)


def hear_warnings(loop: Loop, warnings: int, warned: Callable[[int], None]) -> None:
    """Have `warned` told of the signals that the batch system sends."""

    def hear(_mask: int) -> None:
        said = os.read(warnings, 64)
        for number in said or bytes([GONE]):
            warned(number)
        if not said:
            loop.remove(warnings)

    loop.add(warnings, hear)


def _info(spool: Spool, header: Header) -> RunInfo:
    sent = unpacked(spool.read_environment(header.epoch))
    return RunInfo(
        run=header.run,
        epoch=header.epoch,
        store=spool.store,
        environment=environment_of(sent, os.environ),
        python_path=header.python_path,
        named=header.named,
        clean_scratch=header.clean_scratch,
    )


def _adapted(attempt: Attempt) -> Attempt:
    """As this is the only one here: nothing is gained by a warm worker, and there is nothing to be chained to."""
    form = "fork" if attempt.form == "pool" else attempt.form
    env = {**given_to(attempt.resources.accelerators, os.environ), **attempt.env}
    return msgspec.structs.replace(attempt, form=form, after="", env=env)
