"""A run's result, as a Python value in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orch.bus import events as ev
from orch.leader.supply import Supply
from orch.state.model import State
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore
from orch.work.values import Values


def load_result(store: FileStore, state: State, fetch: Callable[[int], ev.Event]) -> Any:
    """The workflow's value. Unpickles what the run's own store holds: classes of the workflow must be importable here.

    Raises `JobError` if they are not, `StoreError`.
    """
    supply = Supply(fetch)
    row = state.workflow
    values = Values(supply.values(state, row.refs), lambda blob: blob_bytes(store, blob), "the result")
    return values.load_body(supply.blob(row.value_seq), row.refs)
