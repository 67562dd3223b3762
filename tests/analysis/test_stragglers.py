"""Who holds whom up, in cases worked by hand and in generated timelines."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from simdeep.analysis.stragglers import find_stragglers
from simdeep.engine import compiled
from tests.engine.programs import priced, transfer

from .strategies import timelines
from .tiny_programs import Tiny


def meeting(times, moving=2):
    """Peers compute, exchange together, and compute 5 ns more."""
    tiny = Tiny(len(times))
    for rank, ns in enumerate(times):
        before = tiny.compute(rank, "F", "attn", ns)
        after = tiny.transfer(rank, "comm", "dispatch", moving, [before], group=0)
        tiny.compute(rank, "F", "mlp", 5, [after])
    return tiny.timeline()


def test_peers_wait_for_the_slowest_while_nothing_moves():
    found = find_stragglers(meeting([10, 10, 14]), peers=3)
    assert found.compute_ns.tolist() == [15, 15, 19]
    assert found.slower_ns.tolist() == [0, 0, 4]
    assert found.waited_ns.tolist() == [4, 4, 0]
    assert found.caused_ns.tolist() == [0, 0, 8]
    assert found.lost_ns.tolist() == [0, 0, 8]
    assert found.most_for.tolist() == [2, 2, -1]
    assert found.most_ns.tolist() == [4, 4, 0]
    worst, *others = found.slowest()
    assert (worst.rank, worst.why) == (2, "compute")
    assert worst.caused_s == pytest.approx(8e-9)
    assert [s.why for s in others] == ["nothing", "nothing"]


def test_nobody_waits_for_an_equal():
    found = find_stragglers(meeting([7, 7, 7, 7]), peers=4)
    for name in ("slower_ns", "waited_ns", "caused_ns", "lost_ns", "links_slower_ns"):
        assert not getattr(found, name).any(), name
    assert (found.most_for == -1).all()


def test_waiting_for_another_pipeline_rank_is_the_schedules():
    tiny = Tiny(3)
    sent = None
    for rank in range(3):
        done = tiny.compute(rank, "F", "attn", 10, [] if sent is None else [sent])
        sent = tiny.transfer(rank, "p2p", "p2p", 1, [done])
    found = find_stragglers(tiny.timeline(), peers=1)
    assert found.waited_ns.tolist() == found.caused_ns.tolist() == [0, 0, 0]
    as_peers = find_stragglers(tiny.timeline(), peers=3)
    assert as_peers.waited_ns.tolist() == [0, 10, 21]
    assert as_peers.most_for.tolist() == [-1, 0, 1]


def test_a_slow_port_holds_its_group_up():
    """Ports 0 and 4 belong to ranks 0 and 1: 30 ns against 12 and 10, in a group of three."""
    tasks = [
        transfer(rank=0, group=0, ports={0: 12.0}),
        transfer(rank=1, group=0, ports={4: 30.0, 5: 2.0}),
        transfer(rank=2, group=0, ports={8: 10.0}),
        transfer(rank=2, stream=1, ports={9: 99.0}),
    ]
    program = replace(priced(tasks), n_ports=12)
    found = find_stragglers(compiled.run(program), peers=3)
    assert found.held_ns.tolist() == [0, 2 * (30 - 12), 0]
    assert found.links_slower_ns.tolist() == [0, 18, 97]
    assert found.slowest(1)[0].rank == 1


def test_the_slowest_first_and_as_many_as_asked():
    found = find_stragglers(meeting([10, 18, 14, 10]), peers=4)
    assert [s.rank for s in found.slowest(2)] == [1, 0]
    assert len(found.slowest(100)) == 4


@settings(deadline=None)
@given(timelines())
def test_properties(timeline):
    found = find_stragglers(timeline, peers=3)
    assert found.caused_ns.sum() == found.waited_ns.sum()
    assert (found.waited_ns >= found.most_ns).all()
    assert (found.most_ns >= 0).all()
    assert (found.waited_ns + found.compute_ns <= timeline.makespan_ns).all()
    assert ((found.most_for >= 0) == (found.most_ns > 0)).all()
    assert (found.most_for != np.arange(3)).all()
