"""`orch set`: change limits of a run that goes on."""

from __future__ import annotations

from typing import Any

from orch.cli import settings as to
from orch.cli.parser import STORE, Command, LogLevel, RunId, Store, application, command
from orch.cli.usage import UsageError
from orch.config import SETTINGS
from orch.leader.settings import ADJUSTABLE

app = application()

LIMITS = tuple(setting for setting in SETTINGS if setting.keyword in ADJUSTABLE)
_LIMITS = ", ".join(f"--{setting.name}" for setting in LIMITS)


FIXED = {
    option: setting.name
    for setting in SETTINGS
    if setting.keyword and setting not in LIMITS
    for option in (f"--{setting.name}", f"--no-{setting.name}")
}
"""The options of `orch run` that are settled once the run has begun."""


class _SetCommand(Command):
    """It knows what else is a setting, and cannot be changed now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for token in args:
            name = FIXED.get(token.partition("=")[0])
            if name is not None:
                self.refuse(
                    ctx,
                    f"{name} cannot be changed while a run goes on; these can: {_LIMITS}. Or stop the run, and carry "
                    f"it on with orch replay --restart {token}",
                )
        return super().parse_args(ctx, args)


@command(app, "set", "[OPTIONS] [RUN]", cls=_SetCommand)
@to.with_settings(*LIMITS)
def set_(
    run: RunId = None,
    *,
    store: Store = STORE,
    _level: LogLevel = "warning",
    given: to.Given,
) -> int:
    """Change limits of a run (default: the newest) while it goes on, for what is started from now on.

    A limit is lifted with "unlimited". What has no leader is changed for whoever carries it on.
    """
    if not given:
        raise UsageError(f"orch set: say what to change: {_LIMITS}")
    from orch.cli.control import pursue

    return pursue("set", store, run, to.keywords(given))
