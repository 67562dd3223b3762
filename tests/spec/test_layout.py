"""Layouts: groups against Megatron's rank order, properties, and exact stage cuts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.spec.layout import (
    GROUP_KINDS,
    GroupKind,
    Layout,
    StageSpec,
    auto_stages,
    balanced_partition,
    stages_from_counts,
)
from simdeep.spec.model import load_model, model_catalogue


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    degree = st.integers(1, 6)
    tp, cp, dp, pp = (draw(degree) for _ in range(4))
    block = tp * cp * dp
    ep = draw(st.sampled_from([d for d in range(1, block + 1) if block % d == 0]))
    return Layout(tp=tp, cp=cp, dp=dp, pp=pp, ep=ep)


@given(layouts(), st.sampled_from(GROUP_KINDS))
def test_each_rank_is_in_exactly_one_group_of_each_kind(layout: Layout, kind: GroupKind) -> None:
    groups = layout.groups(kind)
    assert groups.shape == (layout.n_ranks // layout.size(kind), layout.size(kind))
    assert sorted(groups.ravel().tolist()) == list(range(layout.n_ranks))
    index = layout.group_index(kind)
    for rank in range(0, layout.n_ranks, max(1, layout.n_ranks // 7)):
        assert rank in groups[index[rank]]
        assert layout.group_of(kind, rank).tolist() == groups[index[rank]].tolist()


VARIES: dict[GroupKind, set[str]] = {
    "tp": {"tp"},
    "cp": {"cp"},
    "dp": {"dp"},
    "dp_cp": {"dp", "cp"},
    "pp": {"pp"},
    "stage": {"dp", "cp", "tp"},
}


@given(layouts())
def test_group_members_differ_in_their_own_coordinates_only(layout: Layout) -> None:
    where = layout.coordinates()._asdict()
    for kind, varies in VARIES.items():
        members = layout.groups(kind)
        for name in ("pp", "dp", "cp", "tp"):
            values = where[name][members]
            if name not in varies:
                assert (values == values[:, :1]).all()
    for kind, other in (("ep", "edp"), ("edp", "ep")):
        members = layout.groups(kind)
        assert (where[other][members] == where[other][members][:, :1]).all()
        assert (where["pp"][members] == where["pp"][members][:, :1]).all()
        assert (where[kind][members] == np.arange(layout.size(kind))).all()


@given(layouts())
def test_coordinates_and_ranks_are_inverse(layout: Layout) -> None:
    c = layout.coordinates()
    rank = c.tp + layout.tp * (c.cp + layout.cp * (c.dp + layout.dp * c.pp))
    assert (rank == np.arange(layout.n_ranks)).all()
    expert = c.ep + layout.ep * (c.edp + layout.edp * c.pp)
    assert (expert == np.arange(layout.n_ranks)).all()
    last = layout.n_ranks - 1
    place = {k: int(v[last]) for k, v in c._asdict().items()}
    assert layout.ranks_of(**place).tolist() == [last]


def test_megatron_example() -> None:
    """The example in Megatron-LM's parallel_state.py: 16 GPUs, tp 2, pp 4."""
    layout = Layout(tp=2, pp=4, dp=2)
    assert layout.groups("tp").tolist() == [[i, i + 1] for i in range(0, 16, 2)]
    assert layout.groups("dp").tolist() == [
        [0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15],
    ]  # fmt: skip
    assert layout.groups("pp").tolist() == [
        [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
    ]  # fmt: skip


def test_reference_layout_on_nodes() -> None:
    """DeepSeek-V3: EP64 spans 8 nodes (arXiv 2412.19437 sec 3.2), pipeline neighbours are apart."""
    layout = Layout(pp=16, dp=128, ep=64)
    assert layout.n_ranks == 2048
    assert layout.edp == 2
    span = layout.span("ep", 8)
    assert (span.size, span.nodes, span.ranks_per_node, span.within_node) == (64, 8, 8, False)
    assert layout.span("pp", 8).nodes == 16
    assert layout.span("edp", 8) == layout.span("edp", 8)
    assert (layout.nodes_spanned("edp", 8) == 2).all()
    assert Layout(tp=8, dp=2).span("tp", 8).within_node
    assert Layout(dp=64, ep=64).span("ep", 72).within_node  # one NVL72 domain


@given(layouts(), st.sampled_from(GROUP_KINDS), st.sampled_from([1, 2, 4, 8, 72]))
def test_span_agrees_with_counting(layout: Layout, kind: GroupKind, per_node: int) -> None:
    nodes = [[int(r) // per_node for r in group] for group in layout.groups(kind)]
    span = layout.span(kind, per_node)
    assert span.nodes == max(len(set(n)) for n in nodes)
    assert span.ranks_per_node == max(max(n.count(x) for x in set(n)) for n in nodes)
    assert layout.nodes_spanned(kind, per_node).tolist() == [len(set(n)) for n in nodes]


def test_many_ranks_are_quick() -> None:
    layout = Layout(tp=8, pp=16, dp=512, ep=64)
    assert layout.n_ranks == 65536
    for kind in GROUP_KINDS:
        assert layout.span(kind, 8).size == layout.size(kind)


def test_devices_of_stages() -> None:
    layout = Layout(pp=4, dp=2, tp=2, vpp=2)
    assert layout.devices_of_stage(1).tolist() == [4, 5, 6, 7]
    assert layout.devices_of_stage(5).tolist() == [4, 5, 6, 7]  # second stage of rank 1
    one_way, other_way = layout.devices_of_stage(0), layout.devices_of_stage(3, direction=1)
    assert one_way.tolist() == other_way.tolist()  # DualPipe: embedding and head share ranks


@pytest.mark.parametrize(
    ("degrees", "keys"),
    [
        ({"pp": 0}, {"layout.pp"}),
        ({"tp": -1, "dp": 0, "zero": 4}, {"layout.tp", "layout.dp", "layout.zero"}),
        ({"dp": 12, "ep": 8}, {"layout.ep"}),
        ({"tp": True}, {"layout.tp"}),
        ({"pp": 2, "stages": stages_from_counts([1], mtp=False)}, {"layout.stages"}),
    ],
)
def test_layouts_that_cannot_be_are_refused_with_every_problem(
    degrees: dict[str, int], keys: set[str]
) -> None:
    with pytest.raises(InputError) as caught:
        Layout(**degrees)  # type: ignore[arg-type]
    assert {p.key for p in caught.value.problems} == keys


@pytest.mark.parametrize(
    "stages",
    [
        (StageSpec(0, (1,), embedding=True), StageSpec(1, (0,), head=True)),
        (StageSpec(0, (0,)), StageSpec(1, (1,), head=True)),
        (StageSpec(0, (0,), embedding=True, head=True), StageSpec(1, (1,))),
        (StageSpec(0, (0,), embedding=True, mtp=True), StageSpec(1, (1,), head=True)),
        (StageSpec(1, (0,), embedding=True), StageSpec(0, (1,), head=True)),
    ],
)
def test_stages_out_of_order_are_refused(stages: tuple[StageSpec, ...]) -> None:
    with pytest.raises(InputError):
        Layout(pp=2, stages=stages)


def test_deepseek_v3_on_16_ranks() -> None:
    """61 layers and MTP: four layers on 15 ranks, one beside head and MTP on the last."""
    stages = auto_stages(load_model("deepseek-v3"), 16)
    assert [len(s.layers) for s in stages] == [4] * 15 + [1]
    assert stages[0].embedding
    assert stages[-1].head
    assert stages[-1].mtp
    Layout(pp=16, dp=128, ep=64, stages=stages)


@pytest.mark.parametrize("name", model_catalogue())
def test_auto_stages_are_always_valid(name: str) -> None:
    model = load_model(name)
    for n in (1, 2, 3, 8, model.n_layers):
        stages = auto_stages(model, n)
        Layout(pp=n, stages=stages)
        assert sum(len(s.layers) for s in stages) == model.n_layers
        assert min(len(s.layers) for s in stages) >= 1
        assert stages[-1].mtp == (model.mtp_layers > 0)
    assert len(auto_stages(model, 2, vpp=3)) == 6
    with pytest.raises(InputError, match="layers"):
        auto_stages(model, model.n_layers + 1)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=9),
    st.integers(1, 9),
    st.integers(0, 30),
)
def test_partition_is_the_best_of_all(costs: list[int], parts: int, extra: int) -> None:
    if parts > len(costs):
        with pytest.raises(ValueError, match="cannot cut"):
            balanced_partition(costs, parts, extra)
        return

    def value(counts: list[int]) -> tuple[float, float]:
        ends = np.cumsum(counts)
        runs = [sum(costs[e - c : e]) for c, e in zip(counts, ends, strict=True)]
        runs[-1] += extra
        return max(runs), sum(r * r for r in runs)

    def cuts() -> itertools.chain[list[int]]:
        inner = itertools.combinations(range(1, len(costs)), parts - 1)
        return itertools.chain(np.diff([0, *c, len(costs)]).tolist() for c in inner)

    found = balanced_partition(costs, parts, extra)
    assert sum(found) == len(costs)
    assert min(found) >= 1
    assert value(found) == min(value(c) for c in cuts())
