"""A state that was put away and taken out again is the state: whatever it has in it, and whatever comes next."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folded import Folded
from support.walk import Walk

from orch.bus import events as ev
from orch.state.image import NoImage, from_image, image
from orch.state.model import State
from orch.testing.states import check, difference, snapshot


def again(state: State) -> State:
    return from_image(memoryview(b"".join(image(state))))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_it_comes_back_at_any_point_of_a_random_log(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(40):
        if walk.chance.random() < 0.3:
            taken = again(walk.told.state)
            assert difference(snapshot(taken), snapshot(walk.told.state)) == []
            check(taken)
            walk.told.state = taken  # the story goes on with it
        walk.step()
    replayed = Folded()
    replayed.then(*walk.events)
    assert difference(snapshot(replayed.state), snapshot(walk.told.state)) == []


def test_what_is_provisional_comes_back() -> None:
    told = Folded()
    told.then(
        ev.Opened(run="r", host="h", pid=1), ev.Created(run="r"), ev.Added(job=1, kind="k", serves=0, form="service")
    )
    assert difference(snapshot(again(told.state)), snapshot(told.state)) == []


def test_an_empty_state_comes_back() -> None:
    assert difference(snapshot(again(State())), snapshot(State())) == []


def test_pieces_do_not_change_with_the_state() -> None:
    walk = Walk(3)
    walk.told.state.jobs.hot = 1
    walk.told.state.cool()
    before, pieces = snapshot(walk.told.state), image(walk.told.state)
    for _ in range(30):
        walk.step()
    taken = from_image(memoryview(b"".join(pieces)))
    assert difference(snapshot(taken), before) == []


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_no_image_is_refused(seed: int, data: st.DataObject) -> None:
    whole = b"".join(image(Walk(seed % 50).told.state))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(NoImage):
        from_image(memoryview(whole[:cut]))
    with pytest.raises(NoImage):
        from_image(memoryview(whole + b"x"))
