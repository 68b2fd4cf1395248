"""The workflows of `trying`, for the command, which takes files with one workflow only."""

from __future__ import annotations

from typing import Any

import orch
from flows import trying


@orch.workflow
def main(what: str = "one", where: str = "", pipe: str = "") -> Any:
    given = {"where": where, "pipe": pipe}
    return getattr(trying, what)(**{name: value for name, value in given.items() if value})
