"""`linked.held` for the command, which takes files with one workflow only."""

from __future__ import annotations

from typing import Any

import orch
from flows import linked


@orch.workflow
def main(where: str, said: str = "", held: str = "") -> Any:
    return linked.held(where, (said, held) if said else None)
