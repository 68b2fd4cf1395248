"""PBS Professional and OpenPBS: qsub, qstat, qselect, qdel, pbsnodes; and what Torque has in common with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orch.adapters.contract import Adapter


def adapter() -> Adapter:
    """The adapter `pbs`."""
    from orch.adapters.batch.adapter import BatchAdapter
    from orch.adapters.pbs.dialect import Pbs

    return BatchAdapter("pbs", Pbs)
