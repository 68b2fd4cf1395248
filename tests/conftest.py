"""The environment in which all tests run, and the commands that they start."""

from __future__ import annotations

import os

os.environ["ORCH_RETRY_BACKOFF"] = "0"  # nobody waits for a retry; tests of the back-off set their own
os.environ["XDG_CONFIG_HOME"] = "/nowhere"  # what the user has set for himself is no part of a test
