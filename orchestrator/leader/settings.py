"""The settings of a run: kept in its log, so that a restart needs none of them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from orch.errors import UserError
from orch.sizes import parse_size


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for all jobs of a run.

    `cores`, `memory` (bytes): what the run may use at once, 0 for all there is. `max_log`: bytes kept of each of an
    attempt's output streams. `set_env` are names only: values are never stored. `out`: the directory that the result's
    files are to be exported to, for whoever shows the result; a restart shows it as the first leader would have.
    """

    adapter: str = "local"
    cores: float = 0.0
    memory: int = 0
    retries: int = 0
    work_dir: str = ""
    durability: str = "always"
    max_log: int = 16 * 1024 * 1024
    set_env: list[str] = []
    deploy: bool = True
    out: str = ""

    def override(self, **changes: Any) -> Settings:
        """These settings, with those of `changes` that are not None on top, given as to `make_settings`."""
        given = {key: value for key, value in changes.items() if value is not None}
        return make_settings(**{**msgspec.structs.asdict(self), **given})


def make_settings(
    *, memory: str | float = 0, max_log: str | float, work_dir: str | Path = "", out: str | Path = "", **rest: Any
) -> Settings:
    """Settings from what a user gave: sizes as text, paths as they are. Raises `UserError`."""
    settings = Settings(
        memory=parse_size(memory),
        max_log=parse_size(max_log),
        work_dir=str(Path(work_dir).absolute()) if work_dir else "",
        out=str(Path(out).absolute()) if out else "",
        **rest,
    )
    if settings.durability not in ("always", "relaxed"):
        raise UserError(f"durability is 'always' or 'relaxed', not {settings.durability!r}")
    if settings.cores < 0 or settings.retries < 0:
        raise UserError("cores and retries cannot be negative")
    return settings


def to_log(settings: Settings) -> dict[str, Any]:
    """As it stands in the `created` event."""
    return dict(msgspec.to_builtins(settings))


def from_log(data: dict[str, Any]) -> Settings:
    """The reverse of `to_log`."""
    return msgspec.convert(data, Settings)
