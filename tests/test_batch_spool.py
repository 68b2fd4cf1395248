"""The files by which leaders and workers know of each other: who wins a ticket, what is cleared up, what is damaged."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from pathlib import Path

import pytest

from orch.attempt import Attempt, Note, Outcome, Reason
from orch.bus.events import EMPTY, Resources
from orch.worker.spool import WORKER, Claim, Header, Spool, Ticket

HEADER = Header(run="run", epoch=1, name="o-1", store="/s", made=0.0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(str(tmp_path), "run")
    made.make()
    return made


def attempt(job: int) -> Attempt:
    return Attempt(
        key=f"run.{job}.1",
        run="run",
        job=job,
        attempt=1,
        epoch=1,
        kind="kind",
        name="ünïcode 'name'",
        form="command",
        body=EMPTY,
        resources=Resources(),
    )


def files(spool: Spool) -> list[str]:
    root = Path(spool.root)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _claims(root: str, number: int, tickets: list[Ticket], go: object, won: object) -> None:
    spool = Spool(root, "run")
    go.wait()  # type: ignore[attr-defined]
    won.put([t for t in tickets if spool.claim(t, Claim(WORKER, f"node{number}", number)) is None])  # type: ignore[attr-defined]


def test_of_leaders_and_workers_exactly_one_has_a_ticket(tmp_path: Path, spool: Spool) -> None:
    """Three workers claim, and two leaders revoke, a hundred tickets at the same time."""
    tickets = [Ticket("1-1", task) for task in range(1, 101)]
    context = multiprocessing.get_context("fork")
    go, won = context.Barrier(5), context.SimpleQueue()
    workers = [context.Process(target=_claims, args=(str(tmp_path), n, tickets, go, won)) for n in range(3)]
    for worker in workers:
        worker.start()
    revoked: list[set[Ticket]] = []

    def revoke() -> None:
        go.wait()
        mine = Spool(str(tmp_path), "run")
        revoked.append({ticket for ticket in reversed(tickets) if not mine.revoke([ticket])})  # from the other end

    leaders = [threading.Thread(target=revoke) for _ in range(2)]
    for leader in leaders:
        leader.start()
    claimed = [set(won.get()) for _ in workers]
    for each in leaders:
        each.join()
    for worker in workers:
        worker.join()
    assert revoked[0] == revoked[1]  # both leaders hear the same of every ticket
    assert sum(map(len, claimed)) + len(revoked[0]) == len(tickets)
    assert not any(one & other for one, other in itertools.combinations([*claimed, revoked[0]], 2))
    assert set(spool.revoke(tickets)) == set().union(*claimed)
    assert revoked[0]
    assert any(claimed)


def test_to_revoke_many_leaves_no_drafts(spool: Spool) -> None:
    tickets = [Ticket("1-1", task) for task in range(1, 2501)]
    assert spool.revoke(tickets) == {}
    assert len(files(spool)) == 2500
    assert all("leader" not in name for name in files(spool))


def test_orders_come_back_as_they_were(spool: Spool) -> None:
    given = [attempt(job) for job in range(1, 4)]
    spool.write_orders("1-1", HEADER, given)
    assert [spool.order(Ticket("1-1", task))[1] for task in (1, 2, 3)] == given
    assert spool.header("1-1").keys == [each.key for each in given]
    assert spool.submissions() == ["1-1"]


def test_what_is_over_goes_and_the_rest_stays(spool: Spool) -> None:
    for name in ("1-1", "1-2", "1-11"):
        spool.write_orders(name, HEADER, [attempt(1), attempt(2)])
        spool.write_script(name, "#!/bin/sh\n")
        spool.write_id(name, "5")
        for task in (1, 2):
            ticket = Ticket(name, task)
            claim = Claim(WORKER, "node", task)
            assert spool.claim(ticket, claim) is None
            spool.put_started(ticket, claim)
            spool.put_notes(ticket, 1, [Note(ticket.submission, "log", "stdout", "x")])
            spool.put_outcome(ticket, Outcome(key="k", reason=Reason.FINISHED))
            spool.ask_to_stop(ticket)
            Path(spool.path("output", f"{ticket}.out")).touch()
    spool.clear([Ticket("1-2", 1)], ["1-1"], ["1-11.2.1.notes"])
    left = files(spool)
    assert not any(name.partition("/")[2].startswith("1-1.") for name in left)
    assert [name for name in left if "/1-2.1" in name] == ["claims/1-2.1"]
    assert len([name for name in left if "/1-11." in name]) == 3 + 2 * 6 - 1
    assert "news/1-11.2.1.notes" not in left
    assert spool.submissions() == ["1-11", "1-2"]


def test_orders_go_before_claims(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker claims, and then reads its orders: so one that comes in the middle has nothing to do."""
    spool.write_orders("1-1", HEADER, [attempt(1)])
    spool.revoke([Ticket("1-1", 1)])
    removed: list[str] = []
    monkeypatch.setattr(spool, "_remove", lambda folder, name: removed.append(f"{folder}/{name}"))
    spool.clear([], ["1-1"])
    assert removed == ["orders/1-1.orders", "claims/1-1.1"]


def test_what_is_no_file_of_ours_is_said(spool: Spool) -> None:
    Path(spool.path("news", "1-1.1.done")).write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match="done cannot be read"):
        spool.outcome(Ticket("1-1", 1))
    Path(spool.path("orders", "1-1.orders")).write_bytes(b"\0\0\0\1\xc1")
    with pytest.raises(ValueError, match="orders cannot be read"):
        spool.header("1-1")


def test_nothing_stays_where_nothing_is_left_to_do(spool: Spool) -> None:
    spool.write_environment(1, {"A": "b"})
    spool.write_pending("{}")
    spool.write_orders("1-1", HEADER, [attempt(1)])
    assert not spool.leave()
    assert spool.read_environment(1) == {"A": "b"}
    Path(spool.path("orders", ".2-1.orders.77")).touch()
    spool.clear([], ["1-1"])
    assert spool.leave()
    assert files(spool) == []
