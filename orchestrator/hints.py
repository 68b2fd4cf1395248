"""Commands that messages suggest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orch.store.file import FileStore


def store_option(store: FileStore) -> str:
    """What a suggested command needs, so that it finds the same store when it is typed here: nothing, or --store."""
    here = store.root == _here()
    return "" if here else f" --store {shlex.quote(str(store.root))}"


def _here() -> Path:
    from orch.config import find_store
    from orch.errors import UserError
    from orch.store.locator import open_store

    try:
        return open_store(find_store()).root
    except UserError:  # a command that is typed here would say so
        return Path(".orch").absolute()
