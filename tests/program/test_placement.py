import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.program.placement import (
    Room,
    by_slot,
    compare_placements,
    contiguous,
    eplb_slots,
    explicit,
    gpu_loads,
    max_over_mean,
    place,
    reference_loads,
    search_slots,
)
from simdeep.program.routing import Gate, draw_dispatches, draw_loads, routing_stats

V3 = Gate(256, 8, n_groups=8, topk_groups=4)

# github.com/deepseek-ai/EPLB, README, "Interface and Example".
README_LOADS = np.array(
    [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ],
    dtype=float,
)
README_SLOTS = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]
README_ROOM = Room(ranks=8, gpus_per_node=4, slots_per_rank=2, groups=4)


def peak(slots, load):
    """Load of the busiest GPU, by counting."""
    flat = list(np.ravel(slots))
    return max(sum(load[e] / flat.count(e) for e in gpu) for gpu in slots)


@st.composite
def rooms_and_loads(draw):
    nodes = draw(st.sampled_from([1, 2, 4]))
    per_node = draw(st.integers(1, 4))
    slots = draw(st.integers(1, 5))
    groups = draw(st.sampled_from([g for g in (1, 2, 4, 8) if g % nodes == 0] + [3]))
    room_for = nodes * per_node * slots
    per_group = draw(st.integers(0, room_for // groups))
    load = draw(
        st.lists(
            st.integers(0, 1000), min_size=groups * per_group, max_size=groups * per_group
        ).map(lambda v: np.array(v, dtype=float))
    )
    return Room(nodes * per_node, per_node, slots, groups), load


def test_published_example_comes_out_slot_by_slot():
    for load, published in zip(README_LOADS, README_SLOTS, strict=True):
        assert eplb_slots(load, README_ROOM).ravel().tolist() == published


def test_global_policy_where_groups_do_not_divide_over_nodes():
    three = Room(6, 2, 3, groups=4)
    load = np.arange(1.0, 17.0)
    assert not three.hierarchical
    assert np.array_equal(eplb_slots(load, three), eplb_slots(load, Room(6, 6, 3, groups=1)))
    with pytest.raises(InputError, match="take the global policy"):
        place("eplb-hierarchical", load, three)


@settings(max_examples=50, deadline=None)
@given(rooms_and_loads())
def test_every_policy_places_every_expert_and_search_is_never_worse(case):
    room, load = case
    if not len(load):
        with pytest.raises(InputError, match="must be"):
            eplb_slots(load, room)
        return
    kinds = (True, False) if room.hierarchical else (False,)
    for hierarchical in kinds:
        published = eplb_slots(load, room, hierarchical)
        found = search_slots(load, room, hierarchical, rounds=30)
        for slots in (published, found):
            assert slots.shape == (room.ranks, room.slots_per_rank)
            assert set(slots.ravel()) == set(range(len(load)))
            if hierarchical:
                per_group = len(load) // room.groups
                of_node = slots.reshape(room.nodes, -1) // per_group
                groups = [set(node) for node in of_node]
                assert sum(map(len, groups)) == len(set().union(*groups)) == room.groups
        assert peak(found, load) <= peak(published, load) * (1 + 1e-12)
        assert np.array_equal(found, search_slots(load, room, hierarchical, rounds=30))


WAYS = np.array([w for w in product(range(4), repeat=6) if set(w) == set(range(4))])
WAYS_REPLICAS = (WAYS[:, :, None] == np.arange(4)).sum(axis=1)


def best_of_all(load):
    share = np.take_along_axis(load / WAYS_REPLICAS, WAYS, axis=1)
    return share.reshape(-1, 3, 2).sum(axis=2).max(axis=1).min()


def test_search_comes_near_the_best_of_all_small_placements():
    """Every way to fill 3 GPUs of 2 slots with 4 experts, by brute force."""
    room = Room(3, 3, 2)
    over = {"eplb": [], "search": []}
    for load in np.random.default_rng(0).integers(1, 50, (100, 4)).astype(float):
        best = best_of_all(load)
        over["eplb"].append(peak(eplb_slots(load, room), load) / best)
        over["search"].append(peak(search_slots(load, room), load) / best)
    assert min(map(min, over.values())) > 1 - 1e-9
    assert np.mean(np.array(over["search"]) < 1 + 1e-9) > 0.9
    assert np.mean(np.array(over["eplb"]) < 1 + 1e-9) < 0.8
    assert max(over["search"]) < 1.1


def test_gpu_loads_share_an_experts_load_between_its_replicas():
    placement = explicit([[0, 1], [1]], ranks=2, gpus_per_node=2)
    assert gpu_loads(placement, np.array([6.0, 1.0])).tolist() == [3, 4]
    assert max_over_mean(placement, np.array([[6.0, 1.0], [0.0, 0.0]])).tolist() == [8 / 7, 1]


def test_comparison_on_uniform_skewed_and_recorded_loads():
    """Prefill unit of DeepSeek-V3: 32 GPUs, 32 redundant experts (arXiv 2412.19437, 3.4.1)."""
    rows = compare_placements(reference_loads(V3), Room(32, 8, 9, groups=8))
    value = {(r.loads, r.policy): r.planned for r in rows}
    assert len(rows) == 15
    for loads in ("uniform", "skewed", "recorded"):
        assert value[loads, "contiguous"] > value[loads, "eplb-hierarchical"]
        for policy in ("hierarchical", "global"):
            assert value[loads, f"search-{policy}"] < value[loads, f"eplb-{policy}"]
        assert value[loads, "search-global"] < 1.0005
    assert value["skewed", "contiguous"] > 2
    assert all(r.slots == (256 if r.policy == "contiguous" else 288) for r in rows)
    assert all(r.drawn >= r.planned - 1e-9 for r in rows)


def test_decode_unit_of_320_gpus_has_no_contiguous_placement():
    rows = compare_placements({"even": np.ones(256)}, Room(320, 8, 1, groups=8))
    assert [r.policy for r in rows] == ["eplb-global", "search-global"]


def test_search_over_a_prefill_unit_is_quick():
    load = reference_loads(V3)["skewed"]
    room = Room(32, 8, 9, groups=8)
    search_slots(load, room)
    start = time.process_time()
    search_slots(load, room)
    assert time.process_time() - start < 1


def test_replicas_relieve_the_busiest_gpu_in_the_drawn_loads():
    skew = 0.3
    even = draw_loads(V3, 32, 8, 512, "gate", skew, draws=1)
    placed = place("search-global", even.expert_tokens[0], Room(32, 8, 9, groups=8))
    after = draw_loads(V3, 32, 8, 512, "gate", skew, draws=1, placement=placed)
    assert np.array_equal(after.expert_tokens, even.expert_tokens)
    dispatches = draw_dispatches(V3, 32, 8, 512, "gate", skew, draws=1, placement=placed)
    a_gpu = np.bincount(placed.slot_rank, weights=dispatches.slot_tokens[0], minlength=32)
    assert a_gpu.max() / a_gpu.mean() < 1.01
    before, now = routing_stats(even, 8), routing_stats(after, 8)
    assert now.max_over_mean_gpu < before.max_over_mean_gpu
    # Groups are no longer on one node each: the price in traffic between nodes.
    assert now.nodes_per_token > before.nodes_per_token or now.nodes_per_token == pytest.approx(4)


def test_bad_rooms_loads_and_placements_are_refused():
    with pytest.raises(InputError, match=r"256 experts on 32 ranks of 7 slots: 32 would not be"):
        place("eplb", np.ones(256), Room(32, 8, 7))
    with pytest.raises(InputError, match="slots_per_rank 0"):
        Room(32, 8, 0)
    with pytest.raises(InputError, match="12 ranks do not fill nodes of 8"):
        Room(12, 8, 1)
    with pytest.raises(InputError, match="expert 1 has a load of nan"):
        place("eplb", [1.0, np.nan], Room(2, 2, 1))
    with pytest.raises(InputError, match="10 experts do not divide into 4 groups"):
        place("eplb", np.ones(10), Room(8, 4, 2, groups=4))
    with pytest.raises(InputError, match="must be one of contiguous, eplb"):
        place("best", np.ones(4), Room(2, 2, 2))
    with pytest.raises(InputError, match="rank 0 is given 3 experts and replicas; it has 2 slots"):
        explicit([[0, 1], [0], [0]], 2, 2, slots_per_rank=2)
    with pytest.raises(InputError, match="rank 1 has a slot of expert 4; experts are 0 to 3"):
        by_slot(np.array([[0, 1], [2, 4]]), 4, 2)
    with pytest.raises(InputError, match="expert 3 is placed on no rank"):
        by_slot(np.array([[0, 1], [2, 2]]), 4, 2)
    with pytest.raises(InputError, match="is placed on no rank"):
        by_slot(np.array([[0, 1], [2, 2]]), 6, 2)
    placement = contiguous(256, 16, 8)
    with pytest.raises(InputError, match="placed on 16 ranks, 8 a node; the expert-parallel"):
        draw_loads(V3, 32, 8, 16, "gate", placement=placement)
    with pytest.raises(InputError, match="take routing kind gate"):
        draw_loads(V3, 16, 8, 16, "balanced", placement=placement)
    with pytest.raises(InputError, match="loads of one rank cannot be placed anew"):
        draw_loads(V3, 16, 8, 16, "recorded", placement=placement)
