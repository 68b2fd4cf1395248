"""The environment in which all tests run, and the commands that they start."""

from __future__ import annotations

import os
import tempfile

os.environ["ORCH_RETRY_BACKOFF"] = "0"  # nobody waits for a retry; tests of the back-off set their own
os.environ["XDG_CONFIG_HOME"] = "/nowhere"  # what the user has set for himself is no part of a test

_index = tempfile.TemporaryDirectory(prefix="orch-tests-")  # what is cached in a test is no concern of the user's
os.environ["XDG_CACHE_HOME"] = _index.name
