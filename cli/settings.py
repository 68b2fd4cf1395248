"""The options of `orch run`, which `orch replay --restart` takes as overrides."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from orch.cli.adapters import of_adapters_given
from orch.cli.parser import words
from orch.cli.usage import UsageError
from orch.config import DEFAULT, NAMED, OF_ADAPTERS, SETTINGS, Setting, find_settings, near_misses, setting_named

# How the run shows itself.

Out = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR|URL", help="export every file in the result there, and print the final paths"),
]
LogFile = Annotated[
    str,
    typer.Option("--log-file", metavar="FILE", show_default=False, help="write what is logged to FILE, as JSON lines"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="nothing but the result and errors")]


InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process",
        help="run everything in this process, a job at a time, so that breakpoints work; implies --no-deploy",
    ),
]

Given = dict[str, dict[str, Any]]
"""The settings that stand on the command line: keywords of `Orchestrator`, by the setting's name."""

OPTIONS = tuple(setting for setting in SETTINGS if setting.keyword)


def with_settings(*settings: Setting) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Declare an option for each of these settings; the function gets those that are given as `given`."""

    def declare(function: Callable[..., int]) -> Callable[..., int]:
        def called(**values: Any) -> int:
            return function(given={**_given(settings, values), **of_adapters_given(values.get("context"))}, **values)

        hints = get_type_hints(function, include_extras=True)
        parameters = [
            parameter.replace(annotation=hints[name])
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "given"
        ]
        parameters += [
            inspect.Parameter(_key(each), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(each))
            for each in settings
        ]
        called.__doc__ = function.__doc__
        called.__name__ = function.__name__
        called.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
        # What typer reads; mypy knows it of no function.
        called.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        return called

    return declare


def _key(setting: Setting) -> str:
    return setting.name.replace("-", "_")


def _option(setting: Setting) -> Any:
    name, panel = setting.name, setting.panel
    if setting.flag:
        text = f"{setting.help} ({'yes' if setting.default == 'true' else setting.default.replace('false', 'no')})"
        return Annotated[bool | None, typer.Option(f"--{name}/--no-{name}", help=text, rich_help_panel=panel)]
    if name == "set-env":
        text = f"{setting.help}; without VALUE, that of this shell"
        return Annotated[
            list[str] | None, typer.Option("--set-env", metavar="NAME[=VALUE]", help=text, rich_help_panel=panel)
        ]
    text = f"{setting.help} ({setting.default})" if setting.default else setting.help
    extra: dict[str, Any] = words(setting.words) if setting.words else {}
    return Annotated[
        str | None,
        typer.Option(
            f"--{name}",
            *(f"--{alias}" for alias in setting.aliases),
            metavar=setting.metavar,
            help=text,
            rich_help_panel=panel,
            **{**extra, "parser": setting.parse},
        ),
    ]


def _given(settings: Sequence[Setting], values: dict[str, Any]) -> Given:
    """Take the settings out of the values of all options."""
    given: Given = {}
    for setting in settings:
        value = values.pop(_key(setting))
        if value in (None, [], ()):
            continue
        if isinstance(value, bool):
            given[setting.name] = setting.parse(str(value).lower())
        elif setting.name == "set-env":
            given[setting.name] = {"set_env": environment(value)}
        else:
            given[setting.name] = value
    return given


def keywords(given: Given) -> dict[str, Any]:
    """For `Orchestrator`."""
    found = {key: value for each in given.values() for key, value in each.items()}
    options = {name: text for each in given.values() for name, text in each.get(OF_ADAPTERS, {}).items()}
    return {**found, OF_ADAPTERS: options} if options else found


def everywhere(given: Given) -> Given:
    """What is given, on top of what the files and the environment say. Raises `UserError`."""
    found: Given = {}
    warn_of_near_misses()
    for name, said in find_settings().items():
        # What the environment says of the work directory is for whatever runs in it: the run may go on elsewhere.
        if said.source == DEFAULT or name == "store" or said.source == f"${NAMED['work-dir'].variable}":
            continue
        setting = setting_named(name)
        assert setting is not None  # it was found by its name
        found[name] = setting.parse(said.text)
        if name == "set-env":
            found[name] = {"set_env": environment(found[name]["set_env"], said.source)}
    both = [each["set-env"]["set_env"] for each in (found, given) if "set-env" in each]
    if len(both) == 2:
        found["set-env"]["set_env"].update(both[1])
        return {**found, **given, "set-env": found["set-env"]}
    return {**found, **given}


def warn_of_near_misses() -> None:
    """Say on stderr which variables seem to be meant for settings, and are none."""
    from orch.cli.common import say

    for text in near_misses():
        say(f"orch: warning: {text}")


def in_process(given: Given) -> Given:
    """The settings of a run in this process: the code is read from where it is, so that breakpoints in it count."""
    from orch.adapters.contract import IN_PROCESS

    if "adapter" in given and given["adapter"] != {"adapter": IN_PROCESS}:
        raise UsageError("--in-process has an adapter of its own: give no --adapter")
    if given.get("deploy") == {"deploy": True}:
        raise UsageError("--in-process reads the code from where it is: give no --deploy")
    return {**given, "adapter": {"adapter": IN_PROCESS}, "deploy": {"deploy": False}}


def check_work_dir(given: Given) -> None:
    """Can the work directory be used? Asked where this host is to use it. Raises `UserError`."""
    from orch.adapters.contract import IN_PROCESS
    from orch.cli.export import check_directory

    if given.get("adapter", {"adapter": "local"})["adapter"] not in ("local", IN_PROCESS):
        return
    if "work-dir" in given:
        directory = given["work-dir"]["work_dir"]
        check_directory(Path(directory), f"--work-dir {directory}")
    elif os.environ.get("ORCH_WORK_DIR"):
        found = os.environ["ORCH_WORK_DIR"]
        check_directory(Path(found).absolute(), f"$ORCH_WORK_DIR is {found}")


def environment(pairs: Sequence[str], source: str = "--set-env") -> dict[str, str]:
    """From NAME and NAME=VALUE to variables; a NAME alone is looked up here."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not name.isprintable() or " " in name:
            what = f"names no variable, {name!r} cannot be one" if name else "names no variable"
            raise UsageError(f"{source} {pair!r} {what}: give NAME or NAME=VALUE")
        if not equals and name not in os.environ:
            raise UsageError(f"{source} {name}: the variable is not set here; give a value: --set-env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """From K=V texts to a dictionary."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not K=V")
        found[key] = value
    return found
