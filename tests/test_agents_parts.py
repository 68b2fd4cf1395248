"""Who gets what, and the file that says who has what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from orch.adapters.agents.places import Places
from orch.adapters.agents.rooms import Room, choose, level
from orch.adapters.contract import Capacity
from orch.bus.events import Accelerator, Resources
from orch.errors import Fenced, StoreError
from orch.store import layout

GIB = 1 << 30


def room(cores: float, *, ahead: int = 0, used: Sequence[float] = (), gpus: int = 0) -> Room:
    devices = (Accelerator("gpu", gpus),) if gpus else ()
    found = Room(Capacity(cores, 4 * GIB, 100 * GIB, accelerators=devices), ahead)
    for each in used:
        found.use(Resources(cores=each))
    return found


def want(*cores: float) -> list[Resources]:
    return [Resources(cores=each) for each in cores]


def test_the_host_with_most_left_is_first() -> None:
    assert choose(want(1, 1, 1), [room(4, used=[2]), room(4)]) == [(0, 1), (1, 1), (2, 0)]


def test_what_does_not_fit_waits() -> None:
    assert choose(want(2, 2), [room(2)]) == [(0, 0)]


def test_what_is_next_waits_on_the_host_already() -> None:
    assert choose(want(2, 2, 2), [room(2, ahead=1)]) == [(0, 0), (1, 0)]


def test_small_ones_do_not_starve_a_large_one() -> None:
    rooms = [room(4, used=[1]), room(2, used=[1])]
    assert choose(want(4, 1, 1, 1), rooms) == [(1, 1)]  # the larger host is kept for the first


def test_a_large_one_that_fits_nowhere_keeps_nothing() -> None:
    assert choose(want(8, 1), [room(4)]) == [(1, 0)]


def test_memory_and_devices_count() -> None:
    large = Resources(cores=1, memory=3 * GIB)
    gpu = Resources(cores=1, accelerators=(Accelerator("gpu", 1),))
    assert choose([large, large], [room(4)]) == [(0, 0)]
    assert choose([gpu, gpu], [room(4), room(4, gpus=1)]) == [(0, 1)]


def test_the_limit_of_the_run_holds_for_all_hosts() -> None:
    assert choose(want(1, 1, 1), [room(2), room(2)], Room(Capacity(2, GIB, GIB))) == [(0, 0), (1, 1)]


def test_what_waits_goes_where_there_is_room() -> None:
    rooms = [room(2, used=[2, 1, 1]), room(1)]
    assert level([want(1, 1), []], rooms) == [(0, 0)]


def test_nothing_moves_without_need() -> None:
    assert level([want(1), []], [room(2, used=[1]), room(1)]) == []
    assert level([want(2), []], [room(2, used=[2, 2]), room(1)]) == []


# Places -----------------------------------------------------------------------------------------------------------


def begin(store: Path, epoch: int) -> Places:
    log = store / layout.log_dir("run")
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{epoch:06d}.events.jsonl").touch()
    return Places(str(store), "run", epoch)


def test_the_last_place_counts_whoever_has_written_it(tmp_path: Path) -> None:
    first = begin(tmp_path, 1)
    first.write({"a": ["x", "y"], "b": ["z"]})
    second = begin(tmp_path, 2)
    second.write({"b": ["x"]})
    assert second.read(["x", "y", "z", "unknown"]) == {"x": "b", "y": "a", "z": "b"}
    first.close()
    second.close()


def test_half_a_line_was_not_acted_upon(tmp_path: Path) -> None:
    first = begin(tmp_path, 1)
    first.write({"a": ["x"]})
    first.close()
    (path,) = (tmp_path / layout.hosts_dir("run")).iterdir()
    with path.open("ab") as file:
        file.write(b'{"host": "a", "ke')
    again = Places(str(tmp_path), "run", 1)
    again.write({"a": ["y"]})
    assert again.read(["x", "y"]) == {"x": "a", "y": "a"}
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_superseded_leader_is_told_so_and_the_later_one_knows_what_it_was_about(tmp_path: Path) -> None:
    first = begin(tmp_path, 1)
    first.write({"a": ["x"]})
    second = begin(tmp_path, 2)
    with pytest.raises(Fenced):
        first.write({"a": ["y"]})
    assert second.read(["y"]) == {"y": "a"}
    first.close()


def test_a_full_disk_is_an_error_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    places = begin(tmp_path, 1)
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(StoreError, match="No space left"):
        places.write({"a": ["x"]})
    places.close()
