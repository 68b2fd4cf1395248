"""How long users' code may take at the end of something, before it counts as hung."""

from __future__ import annotations

import os

DEFAULT = 300.0


def _seconds() -> float:
    try:
        return max(0.0, float(os.environ.get("ORCH_AGENT_PATIENCE", DEFAULT)))
    except ValueError:
        return DEFAULT


PATIENCE = _seconds()
"""Seconds for a service that was told to stop, and for all that an attempt has deferred.

`ORCH_AGENT_PATIENCE` in the environment of the agent says otherwise.
"""
