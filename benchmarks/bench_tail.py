"""Following: how long an event of the leader takes to another process's eyes, and what followers cost the leader.

The latency is that of a line with its time in it, written now and then by a log that syncs, and read by `follow_here`,
as `orch tail --follow` does it. The cost is the CPU time that a log takes for so many groups a second, alone and with
followers, and how late it is with them.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
from report import Row, main, scratch

from orch.bus import events as ev
from orch.bus.log import Log

EVENTS = 300
FOLLOWERS = 100
GROUPS = 300
RATE = 100
"""Groups a second."""

EVENTS_IN_A_GROUP = 10
FOLLOW = """
import os, sys, time
from pathlib import Path
from orch.bus.events import Closed, Logged
from orch.bus.tail import follow_here

os.nice(19)
took, seen = [], 0
for events in follow_here(Path(sys.argv[1])):
    now = time.monotonic()
    if not seen:
        print("ready", flush=True)
    seen += len(events)
    took += [now - float(event.text) for event in events if isinstance(event, Logged)]
    if isinstance(events[-1], Closed):
        break
print(*took)
"""


class Follower:
    """A process that follows a log."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-P", "-c", FOLLOW, str(log)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._said = self._process.stdout
        self._said.readline()

    def latencies(self) -> list[float]:
        """Seconds that each event took, once the log is closed."""
        found = [float(text) for text in self._said.read().split()]
        self._process.wait()
        self._said.close()
        return found


def logged() -> ev.Event:
    """With the time in it."""
    return ev.Logged(job=1, attempt=1, text=str(time.monotonic()))


async def now_and_then(directory: Path) -> list[float]:
    """Latencies of events that come at odd times."""
    log = await Log.open(directory, run="r")
    follower = Follower(directory)
    chance = random.Random(1)
    for _ in range(EVENTS):
        await anyio.sleep(chance.expovariate(30))
        await log.append([logged()])
    await log.close("ended")
    return follower.latencies()


async def at_a_rate(directory: Path, followers: int) -> tuple[float, float, list[float]]:
    """What the log took for the appends, in seconds and CPU seconds, and latencies, with so many followers."""
    log = await Log.open(directory, run="r", durability="relaxed")
    all_of_them = [Follower(directory) for _ in range(followers)]
    took, before, began = 0.0, resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for number in range(GROUPS):
        await anyio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        started = time.perf_counter()
        await log.append([logged() for _ in range(EVENTS_IN_A_GROUP)])
        took += time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    await log.close("ended")
    latencies = sorted(one for follower in all_of_them for one in follower.latencies())
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, latencies


def measure() -> Iterator[Row]:
    """Latencies in milliseconds, and what a group costs its writer."""
    with scratch() as directory:
        took = sorted(anyio.run(now_and_then, directory / "odd"))
        yield Row("tail, latency, p50", took[len(took) // 2] * 1000, "ms")
        yield Row("tail, latency, p99", took[len(took) * 99 // 100] * 1000, "ms", "<= 20", "from the append's begin")
        for followers in (0, FOLLOWERS):
            seconds, cpu, late = anyio.run(at_a_rate, directory / str(followers), followers)
            name, note = f"log with {followers} followers", f"{RATE} groups of {EVENTS_IN_A_GROUP} events a second"
            yield Row(name, seconds / GROUPS * 1e6, "µs/group", note=note)
            yield Row(f"{name}, CPU", cpu / GROUPS * 1e6, "µs/group", note=note)
            if late:
                yield Row(f"{name}, latency p50", late[len(late) // 2] * 1000, "ms", note=note)
                yield Row(f"{name}, latency p99", late[len(late) * 99 // 100] * 1000, "ms", note=note)


if __name__ == "__main__":
    main(measure, __doc__)
