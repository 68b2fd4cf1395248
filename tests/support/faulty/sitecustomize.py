"""Faults in processes that tests do not start themselves: agents, templates, workers.

Python imports this module when it starts, if its directory is in PYTHONPATH (as the documentation of `site` says). It
does what these variables of the environment ask for:

    SABOTAGE_CLOCK=FILE              the wall clock is an hour slow as soon as FILE exists
    SABOTAGE_DISK=OPERATION:FILE     that operation of the store's disk fails with EIO, once: it removes FILE
"""

import datetime as dt
import errno
import os
import time
from typing import Any


def slow_clock(trigger: str) -> None:
    """Put the clock back when the trigger is there."""
    real_time, real_time_ns = time.time, time.time_ns

    class Slow(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            found = dt.datetime.fromtimestamp(real_time(), tz)
            return found - dt.timedelta(hours=1) if os.path.exists(trigger) else found

    dt.datetime = Slow  # type: ignore[misc]
    time.time = lambda: real_time() - (3600 if os.path.exists(trigger) else 0)
    time.time_ns = lambda: real_time_ns() - (3600 * 10**9 if os.path.exists(trigger) else 0)


def failing_disk(operation: str, trigger: str) -> None:
    """Have one operation of the store's disk fail."""
    from orch.store.disk import Disk

    real = getattr(Disk, operation)

    def failing(*args: Any) -> Any:
        try:
            os.unlink(trigger)
        except FileNotFoundError:
            return real(*args)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    setattr(Disk, operation, failing)


if "SABOTAGE_CLOCK" in os.environ:
    slow_clock(os.environ["SABOTAGE_CLOCK"])
if "SABOTAGE_DISK" in os.environ:
    failing_disk(*os.environ["SABOTAGE_DISK"].split(":", 1))
