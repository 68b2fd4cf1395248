"""`orch run WORKFLOW.py --help`: the workflow's own options."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio

from orch.bundle import Source, freeze
from orch.planning import Description, Parameter, Planner
from orch.store import layout
from orch.store.file import FileStore


def show_help(source: Source, usage: str, target: str) -> int:
    """Print it. Raises `WorkflowError` if the workflow cannot be imported."""
    description = anyio.run(_describe, source)
    print(usage.rstrip())
    print()
    print("\n".join(render(description, target)))
    return 0


async def _describe(source: Source) -> Description:
    """Ask a planner; the code is frozen in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="orch-help-") as place:
        store = FileStore(Path(place))
        store.create()
        bundle = freeze(source, store)
        directory = store.local_path(layout.bundle_dir(bundle.digest))
        async with Planner.open(directory, os.environ, os.getcwd()) as planner:
            return await planner.describe()


def render(description: Description, target: str) -> Iterator[str]:
    """The lines."""
    yield f"{target}: {description.function}"
    if description.help:
        yield ""
        yield from (f"  {line}".rstrip() for line in description.help.splitlines())
    yield ""
    if not description.parameters:
        yield "It has no options of its own."
        return
    yield "its own options, after the workflow:"
    left = [_left(parameter) for parameter in description.parameters]
    width = max(map(len, left))
    for text, parameter in zip(left, description.parameters, strict=True):
        yield f"  {text:<{width}}  {_right(parameter)}"


def _left(parameter: Parameter) -> str:
    if parameter.flag:
        return f"{parameter.option} / --no-{parameter.option[2:]}"
    return f"{parameter.option} {parameter.type}"


def _right(parameter: Parameter) -> str:
    text = "required" if parameter.required else f"default: {parameter.default}"
    if parameter.barred:
        return f"{text}; cannot be given here: start the run with orch.run"
    return f"{text}; may be repeated" if parameter.many else text
