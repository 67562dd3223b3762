"""Slow and broken GPUs, NICs and NVLinks in the price of a small program, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from simdeep.cost.unequal import PORTS, Unequal, common_pace, port_ids
from simdeep.engine import compiled
from simdeep.spec.overrides import Override
from simdeep.spec.topology import load_topology
from tests.engine.programs import Task, priced, sync, transfer

IB_OUT, IB_IN, NVL_OUT, NVL_IN = range(4)


def cluster(*overrides):
    """Two nodes of eight GPUs, NIC 10 GB/s."""
    made = [Override.model_validate(o) for o in overrides]
    return replace(load_topology("toy-2x8"), overrides=tuple(made))


def unequal(*overrides):
    return Unequal.of(cluster(*overrides), 16)


def test_shares_of_the_nominal_figures():
    found = unequal(
        {"element": "gpu 3", "speed": 0.8},
        {"element": "nic 5", "bandwidth": "2.5 GB/s"},
        {"element": "nvlink 6", "bandwidth": "1 GB/s"},
    )
    topology = load_topology("toy-2x8")
    assert found.speed[[2, 3]].tolist() == [1.0, 0.8]
    assert found.nic[5] == pytest.approx(2.5e9 / topology.nic_bw)
    assert found.nvlink[6] == pytest.approx(1e9 / topology.nvlink_bw)
    assert found.links_differ
    assert not unequal({"element": "gpu 3", "speed": 0.8}).links_differ


def test_the_next_living_nic_of_the_node_carries_a_dead_ones_traffic():
    dead = [{"element": f"nic {n}", "down": True} for n in (6, 7, 0, 15)]
    carrier = unequal(*dead).carrier
    assert carrier.tolist() == [1, 1, 2, 3, 4, 5, 1, 1, 8, 9, 10, 11, 12, 13, 14, 8]


def one_send(peer=12):
    """GPU 4 sends to another node: 100 ns on both NICs."""
    program = replace(priced([transfer(rank=4)]).program, peer=np.array([peer], np.int32))
    return program, np.array([[100.0, 100.0, 0.0, 0.0]])


def test_a_send_uses_its_own_and_its_peers_ports():
    ids, times = port_ids(*one_send(), None)
    assert ids.tolist() == [[4 * PORTS + IB_OUT, 12 * PORTS + IB_IN, -1, -1]]
    assert times.tolist() == [[100.0, 100.0, 0.0, 0.0]]


def test_a_slow_nic_at_either_end():
    topology = load_topology("toy-2x8")
    half = f"{topology.nic_bw / 2} B/s"
    for gpu, expected in ((4, [200.0, 100.0]), (12, [100.0, 200.0])):
        slow = unequal({"element": f"nic {gpu}", "bandwidth": half})
        assert port_ids(*one_send(), slow)[1][0, :2].tolist() == expected


def test_a_dead_nic_detours_over_nvlink_to_the_carriers_nic():
    dead = unequal({"element": "nic 4", "down": True})
    ids, times = port_ids(*one_send(), dead)
    detour = 100.0 * dead.detour
    assert ids[0].tolist() == [5 * PORTS + IB_OUT, 12 * PORTS + IB_IN, 4 * PORTS + NVL_OUT, -1]
    assert times[0] == pytest.approx([100.0, 100.0, detour, 0.0])
    dead = unequal({"element": "nic 12", "down": True})
    ids, times = port_ids(*one_send(), dead)
    assert ids[0].tolist() == [4 * PORTS + IB_OUT, 13 * PORTS + IB_IN, -1, 12 * PORTS + NVL_IN]
    assert times[0] == pytest.approx([100.0, 100.0, 0.0, detour])


def test_the_carrier_shares_its_nic():
    """GPUs 4 and 5 send at once through NIC 5: each takes twice as long."""
    tasks = [transfer(rank=4), transfer(rank=5)]
    program = replace(priced(tasks).program, peer=np.array([12, 13], np.int32))
    times = np.repeat(one_send()[1], 2, axis=0)
    for overrides, lasts in (((), 100), (({"element": "nic 4", "down": True},), 200)):
        ids, ns = port_ids(program, times, unequal(*overrides))
        run = compiled.run(
            replace(priced(tasks), program=program, port=ids, port_ns=ns, n_ports=64)
        )
        assert run.end_ns.tolist() == [lasts, lasts]


def test_all_members_of_a_collective_go_at_the_pace_of_the_slowest():
    tasks = [
        transfer(group=0),
        transfer(rank=1, group=0),
        transfer(rank=2, group=1),
        transfer(rank=3),
        sync(rank=4, group=2),
        Task(rank=5),
    ]
    times = np.array(
        [[10.0, 5, 0, 0], [20, 5, 0, 0], [7, 9, 0, 0], [50, 0, 0, 0], [0] * 4, [0] * 4]
    )
    floor = np.array([1.0, 2, 30, 4, 5, 6])
    assert common_pace(priced(tasks).program, times, floor).tolist() == [20, 20, 30, 4, 5, 6]
    alone = priced([Task()]).program
    assert common_pace(alone, np.zeros((1, 4)), np.ones(1)).tolist() == [1.0]
