"""Where the command's settings come from, the later ones on top:

    defaults < the user's file < the project's file < the environment < the command line

The user's file is `$XDG_CONFIG_HOME/orch/config.toml` (else `~/.config/orch/config.toml`), the project's the nearest
`orch.toml` upwards from the current directory. A setting has one name everywhere: `retry-backoff` in a file (or with
`_`), `$ORCH_RETRY_BACKOFF`, `--retry-backoff`. `SETTINGS` is the one table of them. The API reads none of this.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orch.errors import UserError

if TYPE_CHECKING:
    from orch.adapters.options import Option

PROJECT_FILE = "orch.toml"
DEFAULT = "default"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

ROOM = "What it may use at once"
JOBS = "Jobs that do not say"
ENDING = "Trying again, giving up, cleaning up"
WAY = "How it runs"


OF_ADAPTERS = "options"
"""The keyword of all settings that adapters of their own have."""

_PREFIX = "ORCH_"
_NEAR = 0.8  # how alike two names are, as difflib says it: one wrong letter, or two that have changed places


class Setting(NamedTuple):
    """`keyword`: of `Orchestrator`, empty if that has none. `default`: for people. `panel`: its heading in the help."""

    name: str
    keyword: str
    default: str
    help: str
    metavar: str = ""
    panel: str = ""
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()  # further ones that say it

    @property
    def flag(self) -> bool:
        """On the command line it takes no value: `--NAME` or `--no-NAME`."""
        return not self.metavar

    @property
    def variable(self) -> str:
        """In the environment."""
        return f"{_PREFIX}{self.name.upper().replace('-', '_')}"

    def parse(self, text: str) -> dict[str, Any]:
        """From text to keywords of `Orchestrator`. Raises `ValueError`."""
        if self.name in _OWN_PARSERS:
            return _OWN_PARSERS[self.name](text)
        if not self.keyword:
            return {}
        from orch.leader.settings import CHECKS

        if self.keyword == OF_ADAPTERS:
            return {OF_ADAPTERS: CHECKS[OF_ADAPTERS]({self.name: text})}
        return {self.keyword: CHECKS[self.keyword](text)}


class Given(NamedTuple):
    """What a setting is, as text, and where that was said."""

    text: str
    source: str


def _chaos(text: str) -> dict[str, Any]:
    """P or P:SECONDS."""
    from orch.leader.settings import CHECKS

    share, colon, seconds = text.partition(":")
    found = {"chaos": CHECKS["chaos"](share)}
    return {**found, "chaos_seconds": CHECKS["chaos_seconds"](seconds)} if colon else found


def _variables(text: str) -> dict[str, Any]:
    """Names only: a value could be a secret, and files and environments are read by others."""
    names = text.replace(",", " ").split()
    for name in names:
        if "=" in name:
            raise ValueError(f"{name.partition('=')[0]}=… has a value, and only names can be set here")
    return {"set_env": names}


_OWN_PARSERS = {"chaos": _chaos, "set-env": _variables}
_PATHS = ("store", "work-dir")
_WHEN = ("always", "on-success", "on-error", "never")

SETTINGS = (
    Setting("store", "", ".orch", "the store: a directory, or file:PATH", "LOCATOR"),
    Setting("adapter", "adapter", "local", "the batch system", "NAME", WAY),
    Setting("work-dir", "work_dir", "", "scratch, cache and sockets; else below /tmp", "DIR", WAY),
    Setting("set-env", "set_env", "", "variables of the jobs' environment; values are never stored", "NAMES", WAY),
    Setting(
        "deploy", "deploy", "true", "store the code with the run; else all hosts read it from where it is", "", WAY
    ),
    Setting("chaining", "chaining", "true", "run a job and its only successor in one place", "", WAY),
    Setting("cache", "cache", "marked", "take values of equal earlier calls: of all jobs, or of none", "", WAY),
    Setting(
        "durability",
        "durability",
        "always",
        "sync the log at every step, or seldom",
        "always|relaxed",
        WAY,
        words=("always", "relaxed"),
    ),
    Setting("max-log-size", "max_log", "16MiB", "keep so much of each output of an attempt", "SIZE", WAY),
    Setting("max-cores", "cores", "unlimited", "cores at once", "N", ROOM, ("cores",)),
    Setting("max-memory", "memory", "unlimited", "memory at once, such as 8GiB", "SIZE", ROOM, ("memory",)),
    Setting("max-disk", "disk", "unlimited", "scratch space at once", "SIZE", ROOM),
    Setting("max-jobs", "max_jobs", "unlimited", "attempts at once", "N", ROOM),
    Setting("max-local-jobs", "max_local_jobs", "unlimited", "attempts at once beside the leader", "N", ROOM),
    Setting("max-services", "max_services", "unlimited", "services at once", "N", ROOM),
    Setting(
        "max-preemptible-services",
        "max_preemptible_services",
        "unlimited",
        "services at once that may lose their place",
        "N",
        ROOM,
    ),
    Setting("default-cores", "default_cores", "1", "cores, fractions too", "N", JOBS),
    Setting("default-memory", "default_memory", "0", "memory; 0: not limited", "SIZE", JOBS),
    Setting("default-disk", "default_disk", "0", "scratch space; 0: not limited", "SIZE", JOBS),
    Setting("default-walltime", "default_walltime", "0", "longest run time; 0: not limited", "TIME", JOBS),
    Setting("default-preemptible", "default_preemptible", "false", "may lose their place", "", JOBS),
    Setting("retries", "retries", "0", "tries after the first", "N", JOBS),
    Setting(
        "retry-backoff", "retry_backoff", "2s", "wait before the first retry; three times that after each", "TIME", JOBS
    ),
    Setting(
        "max-lost",
        "max_lost",
        "100",
        "times that an attempt may be lost or preempted before that costs a try",
        "N|unlimited",
        ENDING,
    ),
    Setting(
        "deadlock-wait",
        "deadlock_wait",
        "60s",
        "how long only services may run, and nothing that needs them can",
        "TIME",
        ENDING,
    ),
    Setting("stop-on-first-failure", "first_failure", "false", "give up when the first job fails for good", "", ENDING),
    Setting(
        "chaos",
        "chaos",
        "0",
        "kill that share of attempts, within SECONDS (5), to try a workflow",
        "P[:SECONDS]",
        ENDING,
    ),
    Setting("clean", "clean", "never", "delete the run once it has ended", "|".join(_WHEN), ENDING, words=_WHEN),
    Setting(
        "clean-scratch", "clean_scratch", "always", "delete scratch directories", "|".join(_WHEN), ENDING, words=_WHEN
    ),
)
"""All of them."""

NAMED = {setting.name: setting for setting in SETTINGS}
_VARIABLES = {setting.variable for setting in SETTINGS}


def of_adapter(name: str) -> tuple[Setting, ...]:
    """The settings that the adapter `name` has of its own. Raises `AdapterError` for one that cannot be loaded."""
    from orch.adapters.registry import options_of

    return tuple(map(_of_option, options_of(name)))


def of_adapters() -> dict[str, Setting]:
    """Those of all adapters that come with orch, by name."""
    from orch.adapters.registry import known_options

    return {name: _of_option(option) for name, option in known_options().items()}


def _of_option(option: Option) -> Setting:
    panel = f"Of {option.name.partition('-')[0]}"
    return Setting(
        option.name, OF_ADAPTERS, option.default, option.help, option.metavar, panel, variables=option.variables
    )


def setting_named(name: str) -> Setting | None:
    """The setting of that name, those of adapters included."""
    return NAMED.get(name) or (of_adapters().get(name) if "-" in name else None)


def find_settings(cwd: str = "", environment: Mapping[str, str] | None = None) -> dict[str, Given]:
    """What each setting is but for the command line, checked. Raises `UserError` that names the place."""
    variables = os.environ if environment is None else environment
    found = {setting.name: Given(setting.default, DEFAULT) for setting in SETTINGS}
    for file in (user_file(variables), project_file(cwd)):
        if file is not None:
            found.update(_of_file(file))
    for setting in SETTINGS:
        text = variables.get(setting.variable)
        if text:
            found[setting.name] = _checked(setting, Given(text, f"${setting.variable}"))
    if any(name.startswith(_PREFIX) and name not in _VARIABLES for name in variables):
        found.update(_of_variables(variables))
    return found


def _of_variables(variables: Mapping[str, str]) -> dict[str, Given]:
    """What the environment says of adapters."""
    found = {}
    for setting in of_adapters().values():
        for variable in (*setting.variables, setting.variable):
            if text := variables.get(variable):
                found[setting.name] = _checked(setting, Given(text, f"${variable}"))
    return found


def near_misses(environment: Mapping[str, str] | None = None) -> list[str]:
    """What is said of variables that have nearly the name of a setting, and so have no effect."""
    variables = os.environ if environment is None else environment
    strange = sorted(name for name in variables if name.startswith(_PREFIX) and name not in _VARIABLES)
    if strange:
        known = {name for each in of_adapters().values() for name in (each.variable, *each.variables)}
        strange = [name for name in strange if name not in known]
    found = [(name, _meant(name)) for name in strange]
    return [f"${name} is no setting, and has no effect: did you mean ${meant}?" for name, meant in found if meant]


def _meant(variable: str) -> str:
    """The variable of the setting that has nearly this name; empty if none has."""
    import difflib

    names = {name: setting for setting in SETTINGS for name in (setting.name, *setting.aliases)}
    given = variable.removeprefix(_PREFIX).lower().replace("_", "-")
    near = difflib.get_close_matches(given, names, n=1, cutoff=_NEAR)
    return names[near[0]].variable if near else ""


def find_store() -> str:
    """The locator of the store. Raises `UserError`, of a file that cannot be read."""
    return os.environ.get(NAMED["store"].variable) or find_settings()["store"].text


def user_file(environment: Mapping[str, str]) -> Path | None:
    """The user's own file, if there is one."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".config"
    )
    path = os.path.join(home, "orch", "config.toml")
    return Path(path) if os.path.isfile(path) else None


def project_file(cwd: str = "") -> Path | None:
    """The nearest one upwards, if there is one. What a stranger has put where anybody can (`/tmp`) does not count."""
    try:
        directory = os.path.abspath(cwd or os.getcwd())
    except OSError:  # where we are is no more
        return None
    while True:
        path = os.path.join(directory, PROJECT_FILE)
        if os.path.isfile(path) and not _planted(path, directory):
            return Path(path)
        if directory == (directory := os.path.dirname(directory)):
            return None


def _planted(path: str, directory: str) -> bool:
    try:
        return bool(os.stat(directory).st_mode & stat.S_IWOTH) and os.stat(path).st_uid not in (os.getuid(), 0)
    except OSError:  # it has gone just now
        return True


def _of_file(path: Path) -> dict[str, Given]:
    text, data = _read(path)
    found: dict[str, Given] = {}
    for key, value in data.items():
        setting = setting_named(key.replace("_", "-"))
        where = f"{path}, line {_line(text, key)}"
        if _is_table(value):
            raise UserError(f"{where}: {key} is a table, and there are none here: write all settings without a heading")
        if setting is None:
            raise UserError(f"{where}: there is no setting {key!r}{_nearest(key)}; all there are: orch config")
        if setting.name in found:
            raise UserError(f"{where}: {setting.name} is there twice")
        given = Given(_as_text(value, where, key), str(path))
        _checked(setting, given, f"{where}: {key}")
        found[setting.name] = given._replace(text=_located(setting, given.text, path.parent))
    return found


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (OSError, ValueError) as error:  # what is no text, and no TOML, is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the settings in {path} cannot be read: {why}") from error


def _line(text: str, key: str) -> int:
    """On which line it is set: the reader of TOML does not say."""
    found = re.search(rf"^\s*\[?[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 1


def _nearest(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key.replace("_", "-"), {**NAMED, **of_adapters()}, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _as_text(value: object, where: str, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    raise UserError(f"{where}: {key} is neither text, nor a number, true, false, or a list of names")


def _located(setting: Setting, text: str, directory: Path) -> str:
    """A relative path in a file begins where the file is."""
    if setting.name not in _PATHS or _SCHEME.match(text) or not text:
        return text
    return str(directory / Path(text).expanduser())


def _checked(setting: Setting, given: Given, where: str = "") -> Given:
    try:
        setting.parse(given.text)
    except ValueError as error:
        raise UserError(f"{where or given.source}: {error}") from error
    return given
