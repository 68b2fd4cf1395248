"""What a worker of a batch system makes of one attempt: real worker processes, and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import jobs
from support.nodes import Batch

from orch.attempt import Reason


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    found = Batch(tmp_path)
    yield found
    found.end()


def test_a_command_runs_and_its_outcome_is_there(batch: Batch) -> None:
    outcome = batch.run_here(batch.shell("echo out; echo err >&2"))
    assert outcome.reason is Reason.FINISHED
    assert (outcome.stdout.data, outcome.stderr.data) == (b"out\n", b"err\n")
    assert batch.result(outcome).stdout == "out\n"
    assert outcome.host
    assert batch.left_on_node() == []


def test_a_python_body_has_a_value(batch: Batch) -> None:
    assert batch.value(batch.run_here(batch.python(jobs.add, 1, 2))) == 3
    assert batch.left_on_node() == []
