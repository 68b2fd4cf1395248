"""The simulated disk: what a power cut may take, and what it may not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from simulator.disk import SECTOR, Disk
from simulator.world import World

PATH = Path("/d/file")
ONE, TWO = b"1" * SECTOR, b"2" * SECTOR


def after_a_cut(story: Callable[[Disk], object]) -> set[bytes | None]:
    """Everything that a power cut may leave of the file."""
    left: set[bytes | None] = set()
    for seed in range(200):
        disk = Disk(World(seed))
        story(disk)
        disk.power_cut()
        left.add(disk.get(PATH))
    return left


def written(disk: Disk) -> int:
    """A file with a durable name and a synced first sector."""
    handle = disk.create(PATH)
    disk.sync_dir(PATH.parent)
    disk.write(handle, ONE)
    disk.sync(handle)
    return handle


def test_what_was_synced_stays() -> None:
    assert after_a_cut(written) == {ONE}


def test_of_what_was_not_synced_anything_may_stay_later_parts_without_earlier_ones_too() -> None:
    def story(disk: Disk) -> None:
        disk.write(written(disk), TWO + TWO)

    hole = bytes(SECTOR)
    assert after_a_cut(story) == {ONE, ONE + TWO, ONE + TWO + TWO, ONE + hole + TWO}


def test_a_name_whose_directory_was_not_synced_may_be_gone() -> None:
    def story(disk: Disk) -> None:
        handle = disk.create(PATH)
        disk.write(handle, ONE)
        disk.sync(handle)

    assert after_a_cut(story) == {None, ONE}


def test_a_rename_that_was_not_synced_may_not_have_happened() -> None:
    def story(disk: Disk) -> None:
        written(disk)
        handle = disk.create(Path("/d/new"))
        disk.sync_dir(PATH.parent)
        disk.write(handle, TWO)
        disk.sync(handle)
        disk.rename(Path("/d/new"), PATH)

    assert after_a_cut(story) == {ONE, TWO}


def test_a_process_that_is_killed_loses_nothing() -> None:
    disk = Disk(World(1))
    disk.write(written(disk), TWO)
    assert disk.get(PATH) == ONE + TWO


def test_what_a_failed_sync_has_lost_is_shown_and_not_told_again() -> None:
    """The next one who opens the file syncs in vain, and succeeds (fsync(2))."""

    def story(disk: Disk) -> None:
        handle = written(disk)
        disk.write(handle, TWO)
        disk.fail_sync(handle)
        assert disk.get(PATH) == ONE + TWO
        disk.sync(disk.open(PATH))

    assert after_a_cut(story) == {ONE, ONE + TWO}


def test_who_has_the_file_open_hears_of_a_failed_sync_once() -> None:
    disk = Disk(World(1))
    handle, other = written(disk), disk.open(PATH)
    disk.fail_sync(handle)
    with pytest.raises(OSError, match="Input/output error") as caught:
        disk.sync(other)
    assert caught.value.errno == errno.EIO
    disk.sync(other)


def test_a_full_disk_takes_what_fits() -> None:
    disk = Disk(World(1))
    handle = written(disk)
    disk.faults.room = 10
    assert (disk.write(handle, TWO), disk.write(handle, TWO)) == (10, 0)
