"""A run's result, as a Python value in this process."""

from __future__ import annotations

from functools import partial
from typing import Any

from orch.leader.supply import Supply
from orch.state.model import State
from orch.store.blobs import blob_bytes
from orch.store.file import FileStore
from orch.work.values import Values


def load_result(store: FileStore, state: State, supply: Supply, *, stand_ins: bool = False) -> Any:
    """The workflow's value, unpickled from what the run's own store holds.

    Its classes must be importable here (else `JobError`), or are replaced by stand-ins that show their contents: then
    no code of the workflow is imported. Raises `StoreError`.
    """
    row = state.workflow
    values = Values(supply.values(state, row.refs), partial(blob_bytes, store), "the result", lenient=stand_ins)
    return values.load_body(supply.blob(row.value_seq), row.refs)
