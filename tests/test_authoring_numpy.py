"""A job is no number, and numpy is told so: else it takes one for an array without dimensions, and gives it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import orch


@orch.job
def made() -> Any:
    return np.arange(3)


@pytest.mark.parametrize("compute", [np.sum, np.sqrt, np.max, lambda job: np.ones(3) * job])
def test_numpy_does_not_compute_with_a_job(compute: Callable[[Any], Any]) -> None:
    with pytest.raises(orch.WorkflowError, match="cannot be computed with: it has no value yet"):
        compute(made())
