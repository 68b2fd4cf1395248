"""Slurm: sbatch, squeue, sacct, scancel, sinfo."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter


def adapter() -> Adapter:
    """The adapter `slurm`."""
    from orch.adapters.batch.adapter import BatchAdapter
    from orch.adapters.slurm.dialect import Slurm

    return BatchAdapter("slurm", Slurm)
