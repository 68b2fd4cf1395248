"""The settings of a run: kept in its log, so that a restart needs none of them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from orch.errors import UserError
from orch.sizes import parse_size


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for all jobs of a run.

    `cores`, `memory`, `disk` (bytes): what the run may use at once, 0 for all there is.
    `max_log`: bytes kept of each of an attempt's output streams.
    `set_env` are names only: values are never stored.
    `out`: the directory that the result's files are to be exported to, for whoever shows the result; a restart shows
    it as the first leader would have.
    `max_jobs`, `max_local_jobs`, `max_services`, `max_preemptible_services`: attempts that may be live at once, of all
    jobs, of those with `local`, of services; 0: not limited.
    `retries`, `retry_backoff` (seconds): for jobs that do not say.
    `max_lost`: how often an attempt may end uncharged (LOST, PREEMPTED …) before that costs a try all the same; -1:
    always.
    `default_…`: resources of jobs that do not say; bytes, seconds.
    `deadlock_wait`: seconds for which only services may run, and nothing that needs them can, before the run fails.
    `chaining`: links of a chain run in one place.
    `cache`: which jobs may take the value of an equal earlier call: "marked" ones, "all" or none ("off").
    `first_failure`: the run is given up when the first job fails for good.
    `chaos`: the share of attempts that are killed, within `chaos_seconds` of their start, to try a workflow.
    `clean`, `clean_scratch`: when the run, and when scratch directories, are deleted: "always", "on-success",
    "on-error", "never".
    """

    adapter: str = "local"
    cores: float = 0.0
    memory: int = 0
    disk: int = 0
    max_jobs: int = 0
    max_local_jobs: int = 0
    max_services: int = 0
    max_preemptible_services: int = 0
    retries: int = 0
    retry_backoff: float = 2.0
    max_lost: int = 100
    default_cores: float = 1.0
    default_memory: int = 0
    default_disk: int = 0
    default_walltime: float = 0.0
    default_preemptible: bool = False
    deadlock_wait: float = 60.0
    chaining: bool = True
    cache: str = "marked"
    first_failure: bool = False
    chaos: float = 0.0
    chaos_seconds: float = 5.0
    clean: str = "never"
    clean_scratch: str = "always"
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
