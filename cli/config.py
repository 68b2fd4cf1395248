"""`orch config`: each setting, its value, and where that was said."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orch.cli.parser import STORE, AsJson, LogLevel, Store, application, command
from orch.cli.settings import warn_of_near_misses
from orch.cli.usage import UsageError, did_you_mean
from orch.config import (
    DEFAULT,
    NAMED,
    OF_ADAPTERS,
    Given,
    Setting,
    find_settings,
    of_adapter,
    of_adapters,
    setting_named,
)

app = application()


@command(app, "config", "[OPTIONS] [NAME]")
def config(
    name: Annotated[str | None, typer.Argument(metavar="NAME", hidden=True)] = None,
    *,
    _store: Store = STORE,
    _level: LogLevel = "warning",
    json: AsJson = False,
) -> int:
    """Each setting, its value here, and where that comes from; or the value of one.

    Those that the adapter in use has of its own come last (ORCH_ADAPTER=slurm orch config shows Slurm's).

    Defaults < the user's file ($XDG_CONFIG_HOME/orch/config.toml) < the project's (the nearest orch.toml upwards)
    < the environment (ORCH_MAX_JOBS) < the command line (--max-jobs).
    """
    found = find_settings()
    found = {**{each.name: Given(each.default, DEFAULT) for each in of_adapter(found["adapter"].text)}, **found}
    found = dict(sorted(found.items(), key=lambda item: item[0] not in NAMED))
    warn_of_near_misses()
    if name is None:
        _print_all(found, json=json)
        return 0
    key = name.replace("_", "-")
    if key not in found and (setting := of_adapters().get(key)) is not None:  # of another adapter than the one in use
        found[key] = Given(setting.default, DEFAULT)
    if key not in found:
        raise UsageError(f"there is no setting {name!r}{did_you_mean(key, found)}; all there are: orch config")
    if json:
        _print_json({key: found[key]})
    else:
        print(_text(key, found[key]))
    return 0


def _print_all(found: dict[str, Given], *, json: bool) -> None:
    if json:
        _print_json(found)
        return
    names = max(map(len, found))
    shown = {name: _text(name, given) or "-" for name, given in found.items()}
    values = max(map(len, shown.values()))
    for name, given in found.items():
        print(f"{name:<{names}}  {shown[name]:<{values}}  {given.source}")


def _text(name: str, given: Given) -> str:
    """As it was typed; but of what is said in many ways, yes and no, what it means."""
    if not given.text or not _setting(name).flag:
        return given.text
    value = _value(name, given)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_json(found: dict[str, Given]) -> None:
    from json import dumps

    print(dumps({name: {"value": _value(name, given), "source": given.source} for name, given in found.items()}))


def _value(name: str, given: Given) -> Any:
    """As the API takes it: bytes, seconds, true and false; text where one text says several things."""
    if not given.text:
        return None
    setting = _setting(name)
    if not setting.keyword:
        return given.text
    if setting.keyword == OF_ADAPTERS:
        return given.text if given.source != DEFAULT else None
    values = list(setting.parse(given.text).values())
    return values[0] if len(values) == 1 else given.text


def _setting(name: str) -> Setting:
    found = setting_named(name)
    assert found is not None  # it was found by its name
    return found
