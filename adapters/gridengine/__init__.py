"""Grid Engine (SGE, Son of Grid Engine, Open Grid Scheduler, Univa and Altair): qsub, qstat, qacct, qdel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter


def adapter() -> Adapter:
    """The adapter `gridengine`."""
    from orch.adapters.batch.adapter import BatchAdapter
    from orch.adapters.gridengine.dialect import GridEngine

    return BatchAdapter("gridengine", GridEngine)
