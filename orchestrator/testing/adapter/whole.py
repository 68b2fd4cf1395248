"""Whole runs, with a leader and all that belongs to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orch
from orch.bundle import Source
from orch.testing.adapter import flow
from orch.testing.adapter.bench import comes
from orch.testing.adapter.rig import Rig


class Whole:
    """What a user does."""

    def test_a_whole_run(self, rig: Rig) -> None:
        """Words are counted, in jobs there and in one beside the leader."""
        folder = rig.root / "texts"
        folder.mkdir()
        for number in range(4):
            (folder / f"text {number}").write_text("the fox and the dog\n" * (number + 1), encoding="utf-8")
        file = rig.root / "word_count.py"
        file.write_bytes(Path(flow.__file__).read_bytes())
        settings = {"adapter": rig.adapter(), "work_dir": str(rig.root / "work"), "options": rig.options}
        value = orch.run(Source.file(file), str(folder), store=rig.root / "a store", settings=settings)
        assert value == [["and", 10], ["dog", 10], ["fox", 10], ["the", 20]]
        assert asyncio.run(comes(lambda: not rig.left(), rig.patience)), rig.left()
