"""The kit that every adapter passes: ours, and those of others.

    from orch.testing.adapter import AdapterContract, Rig

    class MyRig(Rig):
        cannot = {"forget": "there is no way to make it", …}

        def adapter(self): return MyAdapter()
        def left(self): return [line for line in my_queue()]
        def cancel_outside(self, external): subprocess.run(["my-cancel", external], check=True)
        …

    class TestMine(AdapterContract):
        @pytest.fixture
        def rig(self, tmp_path):
            rig = MyRig(tmp_path)
            yield rig
            rig.close()

Any runner that knows test classes and fixtures can call it; it needs no plug-in, for the tests are plain functions that
run their own loop. What a rig cannot produce has to be declared with a reason, and is reported as skipped.
docs/adapters.md has more.
"""

from __future__ import annotations

from orch.testing.adapter.bench import Bench, Leader
from orch.testing.adapter.endings import Endings
from orch.testing.adapter.leaders import Leaders
from orch.testing.adapter.rig import FAULTS, REASONS, Rig
from orch.testing.adapter.shapes import Shapes
from orch.testing.adapter.troubles import Troubles
from orch.testing.adapter.whole import Whole

__all__ = ["FAULTS", "REASONS", "AdapterContract", "Bench", "Leader", "Rig"]


class AdapterContract(Endings, Shapes, Leaders, Troubles, Whole):
    """What an adapter promises. Derive a test class from it, with a fixture `rig`."""

    def test_what_cannot_be_tried_is_declared(self, rig: Rig) -> None:
        """A fault is either produced by the rig, or named in `cannot` with a reason."""
        assert rig.undeclared() == []
