"""Attempts that are killed on purpose, for users to try what their workflows make of it."""

from __future__ import annotations

from orch.state.policy import chance


def doom(key: str, share: float, seconds: float) -> float:
    """Seconds after its start at which the attempt `key` is killed; 0: it is not. It follows from the key alone."""
    if chance(f"chaos:{key}") >= share:
        return 0.0
    return max(0.001, seconds * chance(f"when:{key}"))
