"""Files that are kept for successors only, on every way that such a file can go."""

from __future__ import annotations

from typing import Any

import orch


@orch.job(isolation="pool")
def make(text: str) -> dict[str, Any]:
    path = orch.context().scratch / "file"
    path.write_text(text)
    return {"file": orch.context().write_file(path, keep="successors")}


@orch.job(isolation="pool")
def hand_on(value: Any, _after: Any = None) -> Any:
    return value


@orch.job(isolation="pool")
def read(value: Any, _after: Any = None) -> str:
    ref = value if isinstance(value, orch.FileRef) else value["file"]
    return orch.context().open(ref).read().decode()


@orch.job
def tail() -> Any:
    return make("tail")


@orch.workflow
def main(way: str) -> Any:
    late = hand_on(hand_on(hand_on(1)))
    if way == "capsule":
        return read(orch.as_job(make("capsule")).encapsulate()["file"], late)
    if way == "handed on":
        passed = hand_on(make("handed on"))
        return [read(passed), read(passed, late)]
    if way == "tail call":
        return read(tail(), late)
    if way == "result":
        return hand_on(make("result"))
    return orch.as_job(make("result of a capsule")).encapsulate()["file"]
