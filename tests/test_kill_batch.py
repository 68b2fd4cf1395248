"""The leader of a run on a batch system is killed at an event, exactly there, while the batch system is in trouble too.

The next leader finds by files and by name what became of its attempts: nothing runs twice, and nothing is lost.
"""

from __future__ import annotations

import dataclasses
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kills import NIGHTLY, Case, agent_ends
from support.rigs import faced

from orch.bus.events import Event
from orch.testing.cluster.control import Cluster
from orch.testing.cluster.dialect import SETTING
from orch.testing.cluster.faces.fake import COMMANDS

EVENTS = 70


@dataclasses.dataclass
class BatchCase(Case):
    """A run on a fake cluster."""

    cluster: Cluster = dataclasses.field(kw_only=True)

    def begin(self, *options: str) -> list[str]:
        settings = {SETTING: self.cluster.directory, "batch-poll-interval": "0.3s", "batch-call-timeout": "2s"}
        given = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return super().begin("--adapter", "fake", "--no-probe", *given, *options)

    def check_leftovers(self, events: list[Event]) -> None:
        """Nothing is in the cluster."""
        self.cluster.wait(lambda rows: all(row.ended for row in rows))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with faced(tmp_path_factory.mktemp("cluster"), COMMANDS) as cluster:
        yield cluster


def moments(seed: str) -> list[int]:
    """Events at which to kill: one; with ORCH_NIGHTLY=1 many."""
    return random.Random(seed).sample(range(14, EVENTS), 12 if NIGHTLY else 1)


@pytest.mark.timeout(1800 if NIGHTLY else 240)
@pytest.mark.parametrize(
    ("when", "first", "then"),
    [
        ("before", {"lose_next": "fail"}, {}),
        ("behind", {"lose_next": "hang"}, {"lose_next": "fail"}),
        ("checked", {"slow": 0.3, "history_lag": 0.5, "twice": True}, {"lose_next": "hang"}),
    ],
    ids=["answer lost", "no answer", "slow"],
)
def test_the_leader_is_killed(
    tmp_path: Path, cluster: Cluster, when: str, first: dict[str, object], then: dict[str, object]
) -> None:
    """`first`: the batch system's trouble with the leader that is killed; `then`: with the next one."""
    with agent_ends(tmp_path / "s"):
        for at in moments(f"{when} {first}"):
            cluster.reset()
            cluster.set(**first)
            case = BatchCase(tmp_path, f"r{at}", seconds=0.03, cluster=cluster)
            found = case.call([*case.sabotage(at=at, when=when, do=["leader"]), *case.begin()])
            assert found.returncode == -signal.SIGKILL, found.stderr
            cluster.set(**then)
            case.check(case.finish())
