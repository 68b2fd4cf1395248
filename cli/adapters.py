"""The options that adapters have of their own: `--slurm-partition`, where `--adapter slurm` is meant.

There are many, and a run needs those of one adapter at the most. So they are not declared: they are taken out of the
arguments before the library reads these, and shown in the help of the adapter that is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from orch.cli.parser import HELP, Command
from orch.config import Setting, find_settings, of_adapter, of_adapters

_META = "orch.options of adapters"
_ADAPTER = "orch.adapter"
_NEGATION = "--no-"
_SHORT = {"--no-probe": "--no-batch-probe", "--pilot": "--batch-pilot"}
"""What has a shorter name on the command line."""


def of_adapters_given(context: Any) -> dict[str, dict[str, Any]]:
    """Those that stand on the command line: keywords of `Orchestrator`, by the setting's name."""
    found: dict[str, dict[str, Any]] = context.meta.get(_META, {}) if context is not None else {}
    return found


class WithAdapters(Command):
    """A command that takes them."""

    def without_further(self, ctx: Any, args: Sequence[str]) -> Sequence[str]:
        """Take them out, into the context. Raises `UsageError`."""
        ctx.meta[_ADAPTER] = _named(args)
        if all(token in HELP or not token.startswith("--") or self.knows(token) for token in args):
            return args
        settings = of_adapters()
        found = ctx.meta.setdefault(_META, {})
        rest: list[str] = []
        position = 0
        while position < len(args):
            token = args[position]
            if token == "--" or (not token.startswith("-") and not self.allow_interspersed_args):  # noqa: S105 - no secret
                break
            setting, text, used = self._further(ctx, settings, args, position)
            if setting is None:
                name, apart = self.takes(token)
                used = 2 if name and apart else 1
                rest += args[position : position + used]
                position += used
                if name and name == self.ends_with:
                    break
                continue
            position += used
            found[setting.name] = self._parsed(ctx, setting, text)
        return [*rest, *args[position:]]

    def _further(
        self, ctx: Any, settings: dict[str, Setting], args: Sequence[str], position: int
    ) -> tuple[Setting | None, str, int]:
        """The setting that an argument is an option for, what it is to be, and how many arguments that took."""
        name, equals, text = args[position].partition("=")
        name = _SHORT.get(name, name)
        if self.knows(name) or not name.startswith("--"):
            return None, "", 0
        setting = settings.get(name[2:])
        if setting is None and name.startswith(_NEGATION):
            setting = settings.get(name.removeprefix(_NEGATION))
            return (setting, "false", 1) if setting is not None and setting.flag else (None, "", 0)
        if setting is None:
            return None, "", 0
        if setting.flag:
            return setting, text if equals else "true", 1
        if not equals and position + 1 == len(args):
            self.refuse(ctx, f"option {name} requires an argument")
        return setting, text if equals else args[position + 1], 1 if equals else 2

    def _parsed(self, ctx: Any, setting: Setting, text: str) -> dict[str, Any]:
        try:
            return setting.parse(text)
        except ValueError as error:
            self.refuse(ctx, f"--{error}")

    @property
    def allow_interspersed_args(self) -> bool:
        """May options stand behind arguments?"""
        return bool(self.context_settings.get("allow_interspersed_args", True))

    @allow_interspersed_args.setter
    def allow_interspersed_args(self, value: bool) -> None:
        """The library sets its default, which the context's settings overrule."""

    def further_flags(self) -> list[str]:
        """How they are written."""
        return [f"--{name}" for name in of_adapters()]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Those of the adapter that is named come last."""
        super().format_options(ctx, formatter)
        adapter = ctx.meta.get(_ADAPTER) or find_settings()["adapter"].text
        settings = of_adapter(adapter)
        if settings:
            with formatter.section(f"Of the adapter {adapter}"):
                formatter.write_dl([_record(setting) for setting in settings])
        else:
            with formatter.section("Of batch systems"):
                formatter.write_text(f"{ctx.command_path} --adapter NAME --help shows what the adapter has of its own")


def _named(args: Sequence[str]) -> str:
    """The adapter that is named on the command line, as far as help needs to know it."""
    for token, following in itertools.pairwise([*args, ""]):
        if token == "--adapter":  # noqa: S105 - no secret
            return following
        if token.startswith("--adapter="):
            return token.partition("=")[2]
    return ""


def _record(setting: Setting) -> tuple[str, str]:
    if setting.flag:
        text = f"{setting.help} ({'yes' if setting.default == 'true' else 'no'})"
        return f"--{setting.name} / --no-{setting.name}", text
    return (
        f"--{setting.name} {setting.metavar}",
        f"{setting.help} ({setting.default})" if setting.default else setting.help,
    )
