"""Workflows for hosts that are elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orch


@orch.job
def write(size: int) -> dict[str, Any]:
    """A large value, a file, an executable file, a directory, and a file that names another in its text."""
    os.chdir(os.environ["TMPDIR"])
    Path("plain.txt").write_text("plain")
    program = Path("program")
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    Path("tree/below").mkdir(parents=True)
    Path("tree/below/leaf").write_text("leaf")
    me = orch.context()
    plain = me.write_file("plain.txt")
    Path("names.json").write_text(json.dumps([str(plain)]))
    sys.stdout.write("x" * 100_000)
    return {
        "large": "y" * size,
        "plain": plain,
        "program": me.write_file("program"),
        "tree": me.write_dir("tree"),
        "names": me.write_file("names.json"),
    }


@orch.job
def look(made: dict[str, Any], given: Any) -> dict[str, Any]:
    me = orch.context()
    named = json.loads(me.read_file(made["names"]).read_text())
    return {
        "large": len(made["large"]),
        "plain": me.open(orch.FileRef.parse(named[0])).read().decode(),
        "program": subprocess.run([me.read_file(made["program"])], capture_output=True, text=True, check=True).stdout,
        "tree": (me.read_file(made["tree"]) / "below" / "leaf").read_text(),
        "given": me.read_file(given).read_text(),
    }


@orch.workflow
def files() -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("given")
        file.flush()
        given = orch.import_file(file.name, "given.txt")
    return [look(write(size), given) for size in (10, 200_000)]


@orch.job
def seen() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if value.isprintable() or name == "OF_THE_LEADER"}


@orch.workflow
def variables() -> Any:
    return seen()


def read_nothing(path: str = "runs/run/files/000/1.1/0/nothing") -> str:
    """Asks for a file that nobody has stored."""
    return orch.context().read_file(orch.FileRef(name="nothing", path=path)).read_text()
