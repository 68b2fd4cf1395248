"""Streams that only those take part in who know the secret."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch.agent.seal import MAC, NONCE, PROOF, BrokenSeal, Role, Seal

SECRET = b"s" * 32


def seal(secret: bytes, role: Role) -> Seal:
    return Seal(secret, role, os.urandom(NONCE))


def pair(one: bytes = SECRET, other: bytes = SECRET) -> tuple[Seal, Seal]:
    return seal(one, Role.LEADER), seal(other, Role.AGENT)


def proven() -> tuple[Seal, Seal]:
    leader, agent = pair()
    from_agent, _ = agent.feed(leader.begin())
    from_leader, _ = leader.feed(agent.begin() + from_agent)
    assert agent.feed(from_leader) == (b"", b"")
    assert leader.proven
    assert agent.proven
    return leader, agent


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 50), min_size=1))
def test_what_one_says_the_other_hears(words: list[bytes], cuts: list[int]) -> None:
    leader, agent = proven()
    sent = b"".join(map(leader.wrap, words))
    heard, at, turn = b"", 0, 0
    while at < len(sent):
        step = cuts[turn % len(cuts)]
        heard += agent.feed(sent[at : at + step])[1]
        at, turn = at + step, turn + 1
    assert heard == b"".join(words)
    assert leader.feed(agent.wrap(b"answer"))[1] == b"answer"


def test_much_at_once() -> None:
    leader, agent = proven()
    data = bytes(3 << 20)
    assert agent.feed(leader.wrap(data))[1] == data


def test_words_come_with_the_proof() -> None:
    leader, agent = pair()
    from_agent, _ = agent.feed(leader.begin())
    from_leader, _ = leader.feed(agent.begin() + from_agent)
    assert agent.feed(from_leader + leader.wrap(b"hello"))[1] == b"hello"


def test_another_secret() -> None:
    leader, agent = pair(other=b"t" * 32)
    from_agent, _ = agent.feed(leader.begin())
    with pytest.raises(BrokenSeal, match="does not know the secret"):
        leader.feed(agent.begin() + from_agent)
    assert not leader.proven


@pytest.mark.parametrize("role", list(Role))
def test_what_we_say_cannot_be_sent_back_to_us(role: Role) -> None:
    mine = seal(SECRET, role)
    with pytest.raises(BrokenSeal):
        mine.feed(mine.begin())


def test_two_of_the_same_role_do_not_speak_to_each_other() -> None:
    """Else somebody in between could have one leader answer another's questions."""
    one, other = seal(SECRET, Role.LEADER), seal(SECRET, Role.LEADER)
    proof, _ = other.feed(one.begin())
    with pytest.raises(BrokenSeal):
        one.feed(other.begin() + proof)


def test_nothing_is_heard_before_the_proof() -> None:
    leader, _ = pair()
    answer, words = leader.feed(bytes(NONCE))
    assert (len(answer), words) == (PROOF, b"")
    with pytest.raises(BrokenSeal):
        leader.feed(bytes(PROOF) + b"\0\0\0\1x" + bytes(MAC))


def test_an_earlier_connection_cannot_be_played_again() -> None:
    leader, agent = pair()
    from_agent, _ = agent.feed(leader.begin())
    from_leader, _ = leader.feed(agent.begin() + from_agent)
    later = seal(SECRET, Role.AGENT)
    later.feed(leader.begin())
    with pytest.raises(BrokenSeal):
        later.feed(from_leader)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    leader, agent = proven()
    sent = bytearray(leader.wrap(b"run this") + leader.wrap(b"and this"))
    sent[place % len(sent)] ^= change
    try:
        heard = agent.feed(bytes(sent))[1]
    except BrokenSeal:
        return
    assert heard in {b"", b"run this"}  # a length that was changed has it wait for more, and it acts on nothing false


def test_pieces_cannot_be_left_out_or_come_twice() -> None:
    for order in ([1], [0, 0], [1, 0]):
        leader, agent = proven()
        pieces = [leader.wrap(b"one"), leader.wrap(b"two")]
        with pytest.raises(BrokenSeal):
            agent.feed(b"".join(pieces[each] for each in order))
