"""The value of a command. Light to import: the agent makes it too."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """What `orch.command` yields.

    `stdout` and `stderr` are the captured text (undecodable bytes replaced; bounded, see `--max-log-size`), or a
    `FileRef` where the command was told to write that stream to a file. `outputs[name]` is a `FileRef`, a list of
    them for a pattern, or a `DirRef` for a directory.
    """

    exit_code: int
    stdout: Any = ""
    stderr: Any = ""
    outputs: dict[str, Any] = dataclasses.field(default_factory=dict)
