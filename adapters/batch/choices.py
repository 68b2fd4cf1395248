"""The settings that all batch systems have in common (`orch.adapters.settings.BATCH`), as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from orch.errors import UserError
from orch.sizes import parse_duration, parse_size

T = TypeVar("T")


class Choices(msgspec.Struct, frozen=True):
    """What a user has chosen, or nothing. Seconds and bytes.

    `poll_interval`: 0: adaptive. `python`: of workers, empty: the leader's.
    """

    poll_interval: float = 0.0
    max_queued: int = 1000
    pass_memory: bool = True
    overhead: int = 128 * 1024 * 1024
    python: str = ""
    work_dir: str = ""
    call_timeout: float = 60.0
    missing_after: float = 120.0
    strict: bool = False
    probe: bool = True

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Choices:
        """From settings as text, by full name. Raises `UserError` that names the setting."""
        default = cls()

        def chosen(name: str, meaning: Callable[[str], T], otherwise: T) -> T:
            text = options.get(f"batch-{name}", "")
            try:
                return meaning(text) if text else otherwise
            except ValueError as error:
                raise UserError(f"batch-{name}: {error}") from error

        return cls(
            poll_interval=chosen("poll-interval", parse_duration, default.poll_interval),
            max_queued=chosen("max-queued", int, default.max_queued),
            pass_memory=chosen("memory", lambda text: text != "omit", default.pass_memory),
            overhead=chosen("overhead", parse_size, default.overhead),
            python=chosen("python", str, default.python),
            work_dir=chosen("work-dir", str, default.work_dir),
            call_timeout=chosen("call-timeout", parse_duration, default.call_timeout),
            missing_after=chosen("missing-after", parse_duration, default.missing_after),
            strict=chosen("strict", lambda text: text == "true", default.strict),
            probe=chosen("probe", lambda text: text == "true", default.probe),
        )
