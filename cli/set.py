"""`orch set`: change limits of a run that goes on."""

from __future__ import annotations

from orch.cli import settings as to
from orch.cli.parser import STORE, LogLevel, RunId, Store, application, command
from orch.cli.usage import UsageError
from orch.config import SETTINGS
from orch.leader.settings import ADJUSTABLE

app = application()

LIMITS = tuple(setting for setting in SETTINGS if setting.keyword in ADJUSTABLE)


@command(app, "set", "[OPTIONS] [RUN]")
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
        names = ", ".join(f"--{setting.name}" for setting in LIMITS)
        raise UsageError(f"orch set: say what to change: {names}")
    from orch.cli.control import pursue

    return pursue("set", store, run, to.keywords(given))
