"""The settings of a run: kept in its log, so that a restart needs none of them again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from orch.adapters.contract import Capacity
from orch.bus.events import Resources
from orch.errors import UserError
from orch.sizes import parse_duration, parse_size
from orch.state import decide as state_limits
from orch.state.policy import Rules

MOST = 2**31 - 1
"""What numbers and cores may come to: more is a mistake, and beyond 64 bits there is no room for it in the log."""

UNLIMITED = "unlimited"
WHEN = ("always", "on-success", "on-error", "never")
CACHED = ("marked", "all", "off")

Size = str | int
Duration = str | float


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
    "on-error", "never". The run is deleted by whoever shows its result.
    `options`: the adapter's own settings, by their full names ("slurm-partition"), as text.
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
    options: dict[str, str] = {}

    def override(self, **changes: Any) -> Settings:
        """These settings, with those of `changes` that are not None on top, given as to `make_settings`."""
        given = {key: value for key, value in changes.items() if value is not None}
        if "options" in given:
            given["options"] = {**self.options, **given["options"]}
        return make_settings(**{**msgspec.structs.asdict(self), **given})


class Choices(TypedDict, total=False):
    """The settings as a user may give them: sizes and durations as text, limits as a number or "unlimited"."""

    cores: str | float
    memory: Size
    disk: Size
    max_jobs: str | int
    max_local_jobs: str | int
    max_services: str | int
    max_preemptible_services: str | int
    retries: int
    retry_backoff: Duration
    max_lost: str | int
    default_cores: float
    default_memory: Size
    default_disk: Size
    default_walltime: Duration
    default_preemptible: bool
    deadlock_wait: Duration
    chaining: bool
    cache: str | bool
    first_failure: bool
    chaos: float
    chaos_seconds: Duration
    clean: str
    clean_scratch: str
    work_dir: str | Path
    durability: str
    max_log: Size
    deploy: bool
    out: str | Path
    options: dict[str, str]


class Limits(TypedDict, total=False):
    """Those that can be changed while the run goes on."""

    cores: str | float
    memory: Size
    disk: Size
    max_jobs: str | int
    max_local_jobs: str | int
    max_services: str | int
    max_preemptible_services: str | int
    max_lost: str | int
    retry_backoff: Duration


ADJUSTABLE = tuple(Limits.__annotations__)


def make_settings(**given: Any) -> Settings:
    """Settings from what a user gave. Raises `UserError` that names the setting."""
    return Settings(**checked(given))


def make_limits(**given: Any) -> dict[str, Any]:
    """What is to be changed in a run that goes on, as it stands in the log. Raises `UserError`."""
    for name in given:
        if name not in ADJUSTABLE:
            raise UserError(f"{name} cannot be changed while a run goes on; what can be is {', '.join(ADJUSTABLE)}")
    return checked(given)


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """Each value as it stands in the settings. Raises `UserError` that names the setting."""
    return {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    check = CHECKS.get(name)
    if check is None:
        import difflib

        near = difflib.get_close_matches(name, CHECKS, n=1)
        raise UserError(f"there is no setting {name!r}" + (f" (did you mean {near[0]}?)" if near else ""))
    try:
        return check(value)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def rules(settings: Settings, most_memory: int = 0) -> Rules:
    """What holds for jobs that do not say. `most_memory`: bytes that an attempt can be given at the most."""
    return Rules(
        retries=settings.retries,
        backoff=settings.retry_backoff,
        most_lost=settings.max_lost,
        resources=Resources(
            cores=settings.default_cores,
            memory=settings.default_memory,
            disk=settings.default_disk,
            walltime=settings.default_walltime,
            preemptible=settings.default_preemptible,
        ),
        cache=settings.cache,
        most_memory=most_memory,
    )


def live_limits(settings: Settings, capacity: Capacity) -> state_limits.Limits:
    """How many attempts may be live at once: those that fit, if each takes a core, and those handed over ahead.

    Unless the adapter says how many.
    """
    lanes = {
        "local": settings.max_local_jobs,
        "service": settings.max_services,
        "preemptible service": settings.max_preemptible_services,
    }
    return state_limits.Limits(
        slots=capacity.most or max(1, int(capacity.cores)),
        ahead=0 if capacity.most else capacity.ahead,
        jobs=settings.max_jobs,
        lanes={lane: most for lane, most in lanes.items() if most},
        first_failure=settings.first_failure,
    )


def ever(capacity: Capacity, begun: Settings) -> Capacity:
    """The most that an attempt can ever be given: limits lowered since the run had `begun` may be raised again."""
    there = capacity.beyond or capacity
    return msgspec.structs.replace(
        there,
        cores=max(capacity.cores, min(there.cores, begun.cores or there.cores)),
        memory=max(capacity.memory, min(there.memory, begun.memory or there.memory)),
        disk=max(capacity.disk, min(there.disk, begun.disk or there.disk)),
    )


def to_log(settings: Settings) -> dict[str, Any]:
    """As it stands in the `created` event."""
    return dict(msgspec.to_builtins(settings))


def from_log(data: dict[str, Any]) -> Settings:
    """The reverse of `to_log`."""
    return msgspec.convert(data, Settings)


# What a value may be: each takes text as well, and raises ValueError ----------------------------------------------


def count(value: object) -> int:
    """A whole number from 0 on."""
    return _whole(value, 0)


def _amount(value: object) -> float:
    return _at_most(_number(value, float, lambda number: 0 < number < math.inf, "a number above 0"))


def _some(value: object) -> int:
    return _whole(value, 1)


def _whole(value: object, least: int) -> int:
    return int(_at_most(_number(value, int, lambda number: number >= least, f"a whole number from {least} on")))


def _at_most(number: float) -> float:
    if number > MOST:
        raise ValueError(f"that is too much: it can be {MOST} at most")
    return number


def _size(value: Any) -> int:
    size = parse_size(value)
    if not size:
        raise ValueError(f"{value!r} is not a size above 0")
    return size


def _limit(check: Callable[[Any], float], none: int = 0) -> Callable[[Any], Any]:
    """Also "unlimited", and the number that stands for it."""

    def limit(value: object) -> float:
        if value == UNLIMITED or (isinstance(value, int | float) and not isinstance(value, bool) and value == none):
            return none
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {UNLIMITED}") from error

    return limit


def _share(value: object) -> float:
    return _number(value, float, lambda number: 0 <= number <= 1, "a share between 0 and 1")


def _number(value: Any, kind: Callable[[Any], float], fine: Callable[[float], bool], accepted: str) -> float:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    whole = isinstance(value, str) or (isinstance(value, int | float) and number == value)  # int(1.5) is none
    if isinstance(value, bool) or not whole or not fine(number):
        raise ValueError(f"{value!r} is not {accepted}")
    return number


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def flag(value: object) -> bool:
    """Yes or no."""
    found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if found is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return found


def _one_of(names: Sequence[str]) -> Callable[[Any], str]:
    def choice(value: object) -> str:
        if value not in names:
            raise ValueError(f"invalid choice: {value!r} (choose from {', '.join(names)})")
        return str(value)

    return choice


def _cached(value: object) -> str:
    if value in CACHED:
        return str(value)
    try:
        return "all" if flag(value) else "off"
    except ValueError:
        raise ValueError(f"{value!r} is none of {', '.join(CACHED)}") from None


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise ValueError(f"{value!r} is not a path")  # noqa: TRY004 - as all other checks
    return str(Path(value).expanduser().absolute()) if str(value) else ""


def _options(value: object) -> dict[str, str]:
    """Settings of adapters. Raises `ValueError` that names the one."""
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a dictionary of settings")  # noqa: TRY004 - as all other checks
    if not value:
        return {}
    from orch.adapters.registry import check_options  # few runs have any

    return check_options(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "adapter": _name,
    "cores": _limit(_amount),
    "memory": _limit(_size),
    "disk": _limit(_size),
    "max_jobs": _limit(_some),
    "max_local_jobs": _limit(_some),
    "max_services": _limit(_some),
    "max_preemptible_services": _limit(_some),
    "retries": count,
    "retry_backoff": parse_duration,
    "max_lost": _limit(count, none=-1),
    "default_cores": _amount,
    "default_memory": parse_size,
    "default_disk": parse_size,
    "default_walltime": parse_duration,
    "default_preemptible": flag,
    "deadlock_wait": parse_duration,
    "chaining": flag,
    "cache": _cached,
    "first_failure": flag,
    "chaos": _share,
    "chaos_seconds": parse_duration,
    "clean": _one_of(WHEN),
    "clean_scratch": _one_of(WHEN),
    "work_dir": _path,
    "durability": _one_of(("always", "relaxed")),
    "max_log": parse_size,
    "set_env": list,
    "deploy": flag,
    "out": _path,
    "options": _options,
}
"""For each setting, what makes a value of what was given."""
