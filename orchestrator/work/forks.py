"""What a fork of a template does: it runs one attempt, at once or when it is told, and ends.

In a fresh fork, each page of memory that is touched is copied first, and that takes longer than all that a short job
does. So a fork which is made ahead of time rehearses while it waits: when its attempt comes, the pages are there.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from orch.agent import inside, packets
from orch.attempt import Attempt, Note, Place
from orch.bus.events import Blob, Resources
from orch.work.execute import run_attempt

FILES = 77
"""Exit code of a fork that has imported what only attempts with files need: the next are likely to need it, too."""

REHEARSALS = 10
"""So often a template rehearses: Python rewrites a function while that is new (PEP 659), and then leaves it alone."""

_NOTHING = pickle.dumps((int, (), {}), 5)


def prepare(attempt: Attempt) -> None:
    """Import what all attempts of a kind need that most workflows lack: in the template, and not in every fork."""
    if attempt.survey:
        import orch.work.calls
        import orch.work.survey
    if b"orch.work.program" in attempt.body.data:  # it is a program: the pickle names what performs it
        import orch.work.program  # noqa: F401 - as above


def prepare_files() -> None:
    """The same for attempts with files."""
    import orch.store.file
    import orch.work.staging  # noqa: F401 - so that forks have it


def run_one(attempt: Attempt, place: Place, scratch: str, answers: socket.socket, stop_signal: int) -> int:
    """Run the attempt, and send what it left behind; the exit code. `stop_signal` is for services (see `inside`)."""

    def emit(note: Note) -> None:
        packets.send(answers, inside.encode(inside.Said(note)))

    outcome = run_attempt(attempt, place, emit, stop_signal=stop_signal, lent=scratch, last=True)
    packets.send(answers, inside.encode(inside.Left(outcome)))
    return FILES if "orch.store.file" in sys.modules else 0


def rehearse(place: Place) -> None:
    """Run an attempt that does nothing, in a scratch directory that is not there."""
    attempt = Attempt(
        key=f"rehearsal.{os.getpid()}",
        run="",
        job=0,
        attempt=0,
        epoch=0,
        kind="nothing",
        name="",
        form="fork",
        body=Blob(data=_NOTHING, size=len(_NOTHING)),
        resources=Resources(),
    )
    one, other = packets.pair()
    with one, other:
        packets.send(one, inside.encode(inside.Fork(attempt, f"{place.scratch}/{attempt.key}")))
        packet = packets.receive(other)
    assert packet is not None
    message = inside.to_template(packet[0])
    assert isinstance(message, inside.Fork)
    inside.encode(inside.Left(run_attempt(message.attempt, place, lambda _: None, lent=message.scratch)))


def end_after(body: Callable[[], int]) -> NoReturn:
    """The whole of a forked child, which ends with the code that `body` gives: never back into the template's code."""
    code = 70
    try:
        code = body()
    except BaseException:  # noqa: BLE001 - a bug of ours, or a full disk: it is on the attempt's stderr
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
