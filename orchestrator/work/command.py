"""The value of a program that the agent runs itself. Light to import: the agent needs it for every command."""

from __future__ import annotations

import pickle

from orch.results import CommandResult


def command_value(exit_code: int, stdout: bytes, stderr: bytes) -> bytes:
    """The pickled `CommandResult` of a program that wrote this (already bounded by `max_log`)."""
    result = CommandResult(exit_code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
    return pickle.dumps(result, 5)
