"""A workflow that returns parts of a job's value."""

from typing import Any

import orch


@orch.job
def made() -> dict[str, int]:
    return {"there": 7}


@orch.workflow
def main(key: str = "there") -> list[Any]:
    return [made()[key], "beside"]
