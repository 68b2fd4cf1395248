"""`python -m simulator`: tell stories, as many as there is time for, and look whether anything is ever lost.

Each worker process takes every so-manieth seed. The first seed that goes wrong ends it all, with the command that tells
the same story again, and the end of its transcript.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import signal
import sys
import time
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType

import pytest

from simulator import planted, planted_model  # noqa: F401 - it registers its faults
from simulator.kind import ANY, Kind
from simulator.story import Story

Told = tuple[int, str, list[str], int]
"""A seed, what was violated (empty: nothing), the transcript if something was, and events in its log."""

LAST_LINES = 60


LONGEST = 120
"""Seconds of real time that a story may take: one that takes longer is in an endless loop."""


class Endless(Exception):
    """A step does not end."""


def told(seed: int, kind: Kind = ANY) -> Told:
    """Tell one story."""
    story = Story(seed, kind=kind)
    signal.alarm(LONGEST)
    try:
        story.tell()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is to be shown with its seed
        return seed, f"{type(error).__name__}: {error}", story.world.lines, len(story.oracle.known)
    finally:
        signal.alarm(0)
    return seed, "", story.world.lines, len(story.oracle.known)


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise Endless(f"a story takes more than {LONGEST} s: some step of it does not end")


def work(first: int, stride: int, deadline: float, most: int, kind: Kind, results: Queue[Told | None]) -> None:
    """A worker: seeds `first`, `first + stride` … until it is late, or nobody waits for it any more."""
    parent = os.getppid()
    for k in range(most):
        if time.monotonic() > deadline or os.getppid() != parent:
            break
        seed, wrong, lines, events = told(first + k * stride, kind)
        results.put((seed, wrong, lines if wrong else [], events))
    results.put(None)


def many(first: int, seconds: float, most: int, jobs: int, kind: Kind) -> int:
    """Run workers for so long, or for so many seeds; the exit code."""
    results: Queue[Told | None] = multiprocessing.Queue()
    began = time.monotonic()
    share = -(-most // jobs) if most else sys.maxsize
    workers = [
        multiprocessing.Process(target=work, args=(first + k, jobs, began + seconds, share, kind, results), daemon=True)
        for k in range(jobs)
    ]
    for worker in workers:
        worker.start()
    count = events = 0
    left = jobs
    while left:
        try:
            result = results.get(timeout=2 * LONGEST)
        except queue.Empty:
            print("a worker has died, or hangs: nothing was heard of it", file=sys.stderr)
            return 1
        if result is None:
            left -= 1
            continue
        seed, wrong, lines, seen = result
        count, events = count + 1, events + seen
        if wrong:
            for worker in workers:
                worker.terminate()
            show(seed, wrong, lines[-LAST_LINES:])
            return 1
        if count % 500 == 0:
            print(f"{count} seeds, {count / (time.monotonic() - began):.1f} seeds/s", file=sys.stderr)
    passed = time.monotonic() - began
    print(f"{count} seeds from {first} on, {events} events, {count / passed:.1f} seeds/s: nothing was lost")
    return 0


def show(seed: int, wrong: str, lines: list[str]) -> None:
    """What a person wants to know of a story that went wrong. The columns: virtual seconds, step, who, what."""
    print("\n".join(lines))
    print(f"\nseed {seed} went wrong: {wrong}")
    print(f"to see all of it: make simulate SEED={seed}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--time", type=float, default=60.0, help="seconds to go on for (default: 60)")
    parser.add_argument("--seeds", type=int, default=0, help="so many seeds, however long it takes")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="this seed alone, with its whole transcript")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--break", dest="broken", choices=sorted(planted.FAULTS), help="with the engine broken so")
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    kind = ANY
    with pytest.MonkeyPatch.context() as patch:
        if given.broken:
            kind = planted.FAULTS[given.broken].kind
            planted.FAULTS[given.broken].plant(patch)
        if given.seed is not None:
            seed, wrong, lines, _ = told(given.seed, kind)
            show(seed, wrong or "not at all", lines)
            return 1 if wrong else 0
        return many(given.first, sys.maxsize if given.seeds else given.time, given.seeds, given.jobs, kind)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
