"""Programs as jobs: the most frequent lines of a file, by sort, uniq and head.

orch run examples/commands.py --path notes.txt
"""

from __future__ import annotations

from typing import Any

import orch


@orch.workflow
def main(path: str = "", top: int = 5) -> Any:
    """The TOP lines of PATH that stand in it most often (default: of this file)."""
    lines = orch.import_file(path or __file__)
    ordered = orch.command(["sort", lines], stdout="ordered.txt", env={"LC_ALL": "C"})
    counted = orch.command(["uniq", "-c"], stdin=ordered["stdout"], stdout="counted.txt")
    ranked = orch.command(["sort", "-rn", counted["stdout"]], outputs={"ranked": "ranked.txt"}, stdout="ranked.txt")
    return orch.command(["head", "-n", str(top), ranked["outputs"]["ranked"]])["stdout"]
