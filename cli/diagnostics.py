"""`--log-level` and `--log-file`: what orch says of itself, by structlog. Loaded only when wanted: it is slow.

Logging is one more reader of a run's events: each becomes a line, at the level of its weight.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from orch.api import Run
from orch.bus import events as ev
from orch.bus.codec import type_name
from orch.cli.eventline import details
from orch.errors import UserError

_LEVELS: dict[type[ev.Event], int] = {
    ev.Warned: logging.WARNING,
    ev.Failed: logging.ERROR,
    ev.Retrying: logging.WARNING,
    ev.Opened: logging.INFO,
    ev.Created: logging.INFO,
    ev.Recoded: logging.INFO,
    ev.Planned: logging.INFO,
    ev.Requested: logging.INFO,
    ev.Restarted: logging.INFO,
    ev.Running: logging.INFO,
    ev.Succeeded: logging.INFO,
    ev.Cancelled: logging.INFO,
    ev.Logged: logging.INFO,
    ev.Ended: logging.INFO,
    ev.Closed: logging.INFO,
}


def configure(level: str, file: str = "") -> None:
    """Log to `file` as JSON lines, or to stderr for people. Raises `UserError` if the file cannot be written."""
    target = _opened(file) if file else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = (
        structlog.processors.JSONRenderer(default=repr)
        if file
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=target, level=number, format="%(levelname)s %(name)s: %(message)s")


def _opened(file: str) -> TextIO:
    try:
        return open(file, "a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UserError(f"--log-file {file}: {error.strerror}") from error


async def log_events(run: Run) -> None:
    """Log the run's events from here on, and those of its beginning."""
    log = structlog.get_logger()
    async for event in run.events():
        level = _LEVELS.get(type(event), logging.DEBUG)
        fields = {"run": run.id, "seq": event.seq}
        job = getattr(event, "job", 0)
        if job:
            fields["job"] = job
        log.log(level, type_name(event), detail=details(event), **fields)
