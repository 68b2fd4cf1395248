"""Commands that messages suggest."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orch.store.file import FileStore


def store_option(store: FileStore) -> str:
    """What a suggested command needs, so that it finds the same store when it is typed here: nothing, or --store."""
    here = store.root == Path(os.environ.get("ORCH_STORE") or ".orch").absolute()
    return "" if here else f" --store {shlex.quote(str(store.root))}"
