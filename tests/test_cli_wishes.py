"""What is said by who sees to a wish for a run that nobody leads, and has to wait for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from orch.cli import control
from orch.cli.control import _Wish
from orch.store.file import FileStore

WRONG = "the batch system does not answer"


class Stuck:
    """A run that ends when it is told to."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(live={1}, warnings=["older", WRONG])
        self.over = anyio.Event()

    async def wait(self) -> None:
        await self.over.wait()


@pytest.mark.parametrize("left", [True, False], ids=["who leaves", "who stays"])
def test_who_has_to_wait_is_told_what_may_still_run(
    left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "LONG", 0.01)
    wish = _Wish(FileStore(tmp_path), "r", "stop", {})

    async def whole() -> None:
        run: Any = Stuck()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wish._wait, run)
            while "waiting until" not in (said := capsys.readouterr().err):
                await anyio.sleep(0.001)
            assert f"1 attempt may still run ({WRONG})" in said
            if left:
                tasks.cancel_scope.cancel()
            else:
                run.over.set()

    anyio.run(whole)
    assert (WRONG in capsys.readouterr().err) == left
