"""The workflows of `looked`, for the command, which takes files with one workflow only."""

from __future__ import annotations

from typing import Any

import orch
from flows import looked


@orch.workflow
def main(where: str = "", links: int = 100) -> Any:
    return looked.chain(where, links) if where else looked.breaks()
