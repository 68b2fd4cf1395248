"""`placed.many` for the command, which takes files with one workflow only."""

from __future__ import annotations

from typing import Any

import orch
from flows import placed


@orch.workflow
def main(said: str, held: str, jobs: int, accelerators: str = "") -> Any:
    return placed.many(said, held, jobs, {"accelerators": accelerators} if accelerators else None)
