"""Every message has one sender and one receiver, and a tag of its own."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from simdeep.program.schedule import build_table, p2p_sends
from simdeep.validate.messages import steps_of


@given(st.sampled_from(["1f1b", "zb1p", "dualpipe"]), st.integers(1, 4), st.integers(0, 4))
def test_sends_and_receives_match(name, half, more):
    table = build_table(name, 2 * half, 4 * half + 2 * more)
    ranks = range(table.n_ranks)
    steps = [steps_of(table, rank) for rank in ranks]
    sent = [m for rank in ranks for step in steps[rank] for m in step.sends]
    received = [m for rank in ranks for step in steps[rank] for m in step.receives]
    assert len(sent) == len({message.tag for message in sent})
    away = [message for message in sent if message.source != message.target]
    assert Counter(away) == Counter(received)
    for rank in ranks:
        assert all(m.source == rank for step in steps[rank] for m in step.sends)
        assert all(m.target == rank for step in steps[rank] for m in step.receives)
        forward = sum(m.source == rank and not m.slot.gradient for m in away)
        backward = sum(m.source == rank and m.slot.gradient for m in away)
        assert [forward, backward] == p2p_sends(table)[rank].tolist()
