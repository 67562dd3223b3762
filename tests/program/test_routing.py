import os
import re
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simdeep
from simdeep.errors import InputError
from simdeep.program.routing import (
    Counts,
    Gate,
    affinity,
    balanced_loads,
    check_experts,
    contiguous,
    default_skew,
    draw_loads,
    explicit,
    gate_loads,
    hits_per_token,
    load_record,
    routing_stats,
    select_experts,
    unique_cv,
)
from simdeep.program.routing.calibrate import recorded_cv, skew_for_cv
from simdeep.program.routing.dispatches import from_counts
from simdeep.spec.arch import MoeFfn

V3 = MoeFfn(256, 8, 2048, 2048, n_groups=8, topk_groups=4, scoring="sigmoid", has_bias=True)
V2 = MoeFfn(160, 6, 1536, 3072, n_groups=8, topk_groups=3, scoring="softmax")
QWEN = MoeFfn(128, 8, 1536)


def reference_select(gate, logits, bias=None):
    """The published algorithm, token by token, with nothing but sorting."""
    logits = np.asarray(logits, dtype=np.float32)
    scores = affinity(gate, logits)
    keys = scores if bias is None else scores + np.asarray(bias, dtype=np.float32)
    groups = max(1, gate.n_groups)
    per_group = gate.experts // groups
    chosen = []
    for row in keys.astype(np.float64):
        by_group = row.reshape(groups, per_group)
        best = -np.sort(-by_group, axis=1)
        top = max(1, gate.topk // gate.topk_groups) if gate.scoring == "sigmoid" else 1
        order = np.argsort(-best[:, :top].sum(axis=1), kind="stable")
        masked = np.full_like(by_group, -np.inf)
        kept = order[: gate.topk_groups] if groups > 1 else order
        masked[kept] = by_group[kept]
        chosen.append(np.argsort(-masked.ravel(), kind="stable")[: gate.topk])
    return np.array(chosen)


def reference_counts(experts, source, ranks, gpus_per_node, n_experts):
    """Who gets and forwards what, by sets."""
    per_rank = n_experts // ranks
    counts = np.zeros((5, ranks), dtype=int)
    nodes = 0
    for chosen, src in zip(experts, source, strict=True):
        gpus = {int(e) // per_rank for e in chosen}
        used = {g // gpus_per_node for g in gpus}
        nodes += len(used)
        for gpu in gpus:
            counts[0, gpu] += 1
        for node in used:
            landing = node * gpus_per_node + src % gpus_per_node
            if node != src // gpus_per_node:
                counts[1, src] += 1
                counts[2, landing] += 1
            for gpu in gpus:
                if gpu // gpus_per_node == node and gpu != landing:
                    counts[3, landing] += 1
                    counts[4, gpu] += 1
    return counts, nodes


@st.composite
def gates(draw):
    groups = draw(st.sampled_from([1, 2, 4, 8]))
    per_group = draw(st.integers(1, 9))
    limit = draw(st.integers(1, groups))
    topk = draw(st.integers(1, min(8, per_group * limit)))
    scoring = draw(st.sampled_from(["sigmoid", "softmax"]))
    return Gate(groups * per_group, topk, groups, limit, scoring)


@pytest.mark.parametrize("gate", [V3, V2, QWEN, Gate(8, 2, 1, 1, "softmax")], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_gate_chooses_what_the_published_algorithm_does(gate, biased):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((500, gate.experts), dtype=np.float32)
    bias = rng.normal(0, 0.2, gate.experts) if biased else None
    assert np.array_equal(select_experts(gate, logits, bias), reference_select(gate, logits, bias))


@pytest.mark.parametrize("limit", range(1, 9))
def test_gate_under_every_node_limit(limit):
    gate = Gate(256, 8, 8, limit)
    logits = np.random.default_rng(limit).standard_normal((300, 256), dtype=np.float32)
    assert np.array_equal(select_experts(gate, logits), reference_select(gate, logits))


@settings(max_examples=150, deadline=None)
@given(gates(), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_gate_properties(gate, seed, coarse, biased):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (20, gate.experts)).astype(np.float32)
    if coarse:  # many ties
        logits = np.round(logits)
    bias = np.round(rng.normal(0, 1, gate.experts), 1) if biased else None
    chosen = select_experts(gate, logits, bias)
    assert chosen.dtype == np.int16
    assert np.array_equal(chosen, reference_select(gate, logits, bias))
    per_group = gate.experts // gate.n_groups
    for token in chosen:
        assert len(set(token)) == gate.topk
        assert len(set(token // per_group)) <= gate.topk_groups


@settings(max_examples=60, deadline=None)
@given(gates(), st.integers(0, 2**32))
def test_permuting_experts_inside_groups_permutes_the_choice(gate, seed):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((20, gate.experts), dtype=np.float32)
    per_group = gate.experts // gate.n_groups
    moved = np.concatenate(
        [g * per_group + rng.permutation(per_group) for g in range(gate.n_groups)]
    )
    # Column j of the permuted logits is expert moved[j].
    assert np.array_equal(
        moved[select_experts(gate, logits[:, moved])], select_experts(gate, logits)
    )


def test_gate_takes_saturated_logits():
    logits = np.full((2, 256), 300, dtype=np.float32)
    logits[1] = -300
    assert select_experts(V3, logits).tolist() == [list(range(8))] * 2


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(256, 8, 8, 4, "tanh"), "must be 'sigmoid' or 'softmax'"),
        (Gate(256, 8, 7, 4), "do not divide into 7 groups"),
        (Gate(16, 8, 8, 3), "takes 8 experts of a token: must be 1 to 6"),
        (Gate(40_000, 8), "must be 1 to 32767"),
    ],
)
def test_impossible_gates_are_refused(gate, message):
    with pytest.raises(InputError, match=message):
        select_experts(gate, np.zeros((1, gate.experts), dtype=np.float32))


def test_bad_logits_and_bias_are_refused():
    logits = np.zeros((3, 256), dtype=np.float32)
    with pytest.raises(InputError, match=r"must be \[tokens, 256\]"):
        select_experts(V3, logits[:, :255])
    with pytest.raises(InputError, match="256 finite numbers"):
        select_experts(V3, logits, np.zeros(3))
    logits[1, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        select_experts(V3, logits)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(1, 8), (4, 8), (8, 8), (16, 8), (32, 4), (64, 8)]), st.integers(0, 2**32))
def test_counts_are_those_of_a_set_by_set_walk(size, seed):
    ranks, gpus_per_node = size
    rng = np.random.default_rng(seed)
    experts = select_experts(V3, rng.standard_normal((200, 256), dtype=np.float32))
    source = rng.integers(0, ranks, 200).astype(np.int32)
    counts = Counts(contiguous(256, ranks, gpus_per_node))
    counts.add(experts[:50], source[:50])
    counts.add(experts[50:], source[50:])
    expected, nodes = reference_counts(experts, source, ranks, gpus_per_node, 256)
    loads = from_counts([counts], np.bincount(source, minlength=ranks)[None] * 1.0).loads()
    got = (
        loads.unique,
        loads.ib_out_copies,
        loads.ib_in_copies,
        loads.nvl_out_copies,
        loads.nvl_in_copies,
    )
    assert np.array_equal(np.concatenate(got), expected)
    assert loads.nodes_per_token * 200 == pytest.approx(nodes)
    assert np.array_equal(loads.expert_tokens[0], np.bincount(experts.ravel(), minlength=256))


def test_replicas_take_the_tokens_of_their_expert_in_turn():
    placement = explicit([[0, 2], [1]], ranks=4, gpus_per_node=2)
    counts = Counts(placement)
    counts.add(np.zeros((10, 1), dtype=np.int16), np.zeros(10, dtype=np.int32))
    assert counts.slot_tokens.tolist() == [5, 5, 0]
    loads = from_counts([counts], np.array([[300.0, 0, 0, 0]]), scale=30.0).loads()
    assert loads.expert_tokens.tolist() == [[300, 0]]
    assert loads.rows.tolist() == [[256, 0, 256, 0]]


def test_bad_placements_and_tokens_are_refused():
    with pytest.raises(InputError, match="256 experts do not divide over 48"):
        contiguous(256, 48, 8)
    with pytest.raises(InputError, match="must be a multiple of them or fit in one node"):
        contiguous(36, 12, 8)
    with pytest.raises(InputError, match="expert 1 is placed on no rank"):
        explicit([[0], []], 2, 2)
    with pytest.raises(InputError, match="placed on rank 2; ranks are 0 to 1"):
        explicit([[0], [2]], 2, 2)
    with pytest.raises(InputError, match="token 1 names expert 9; experts are 0 to 7"):
        check_experts(np.array([[0, 1], [2, 9]], dtype=np.int16), 8)
    with pytest.raises(InputError, match="token 1 names an expert twice"):
        check_experts(np.array([[0, 1], [2, 2]], dtype=np.int16), 8)


def test_v3_gate_reaches_the_published_nodes_and_gpus():
    """3.97 nodes and 7.49 GPUs of a token at 64 ranks on 8 nodes."""
    loads = draw_loads(V3, 64, 8, 4096, "gate", skew=0.0, draws=4, seed=3)
    stats = routing_stats(loads, 8)
    assert stats.nodes_per_token == pytest.approx(3.97, rel=0.01)
    assert stats.gpus_per_token == pytest.approx(7.49, rel=0.01)
    assert stats.experts_per_node == pytest.approx(8 / 3.97, rel=0.01)
    assert hits_per_token(V3, 64, 8) == pytest.approx((3.97, 7.49), rel=0.01)


def test_hits_without_groups_are_those_of_all_sets():
    gate = Gate(8, 3, scoring="softmax")
    sets = list(combinations(range(8), 3))
    nodes = np.mean([len({e // 4 for e in s}) for s in sets])
    gpus = np.mean([len({e // 2 for e in s}) for s in sets])
    assert hits_per_token(gate, 4, 2) == pytest.approx((nodes, gpus))


@pytest.mark.parametrize("gate", [V3, V2, QWEN], ids=["v3", "v2", "qwen"])
@pytest.mark.parametrize(("ep", "gpus_per_node"), [(8, 8), (32, 8), (4, 8), (16, 4)])
def test_balanced_loads_are_the_mean_of_drawn_ones(gate, ep, gpus_per_node):
    even = balanced_loads(gate, ep, gpus_per_node, 1024, 2)
    drawn = draw_loads(gate, ep, gpus_per_node, 1024, "gate", skew=0.0, draws=6)
    for name in ("unique", "ib_out_copies", "ib_in_copies", "nvl_out_copies", "nvl_in_copies"):
        mean = getattr(even, name)
        assert mean.shape == (2, ep)
        assert np.ptp(mean) == 0
        assert getattr(drawn, name).mean() == pytest.approx(mean[0, 0], rel=0.01), name
    assert even.rows[0, 0] == pytest.approx(1024 * gate.topk, abs=128 * gate.experts / ep)


def test_balanced_rows_of_the_reference_run():
    even = draw_loads(V3, 64, 8, 4096, "balanced")
    assert even.rows[0, 0] == 4096 * 8
    assert even.unique[0, 0] == pytest.approx(30_679, rel=0.002)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(8, 8), (16, 8), (64, 8)]),
    st.integers(1, 3_000),
    st.floats(0, 2),
    st.integers(0, 2**31),
)
def test_copies_out_equal_copies_in(size, tokens, skew, seed):
    ep, gpus_per_node = size
    loads = draw_loads(
        V3, ep, gpus_per_node, tokens, "gate", skew=skew, draws=2, seed=seed, max_tokens=4096
    )
    for out, into in (
        (loads.ib_out_copies, loads.ib_in_copies),
        (loads.nvl_out_copies, loads.nvl_in_copies),
    ):
        assert out.sum() == pytest.approx(into.sum())
    sent = tokens * ep
    assert loads.expert_tokens.sum(axis=1) == pytest.approx([sent * 8] * 2)
    assert loads.unique.sum(axis=1) == pytest.approx(loads.gpus_per_token * sent)
    assert np.all(loads.rows % 128 == 0)
    assert np.all(loads.rows >= loads.unique - 1e-6)
    assert np.all(loads.ib_out_copies <= tokens * (ep // gpus_per_node - 1) + 1e-6)


def test_draws_depend_on_the_seed_and_on_nothing_else():
    few = draw_loads(V3, 16, 8, 256, "gate", skew=0.1, draws=2, seed=5)
    more = draw_loads(V3, 16, 8, 256, "gate", skew=0.1, draws=3, seed=5)
    other = draw_loads(V3, 16, 8, 256, "gate", skew=0.1, draws=2, seed=6)
    assert np.array_equal(few.unique, more.unique[:2])
    assert not np.array_equal(few.unique, other.unique)


def test_sampling_adds_little_to_the_spread():
    """A sixth of the tokens: noise below a fifth of the default skew's own spread."""
    sampled_even = unique_cv(draw_loads(V3, 64, 8, 4096, "gate", skew=0.0, draws=2))
    sampled = draw_loads(V3, 64, 8, 4096, "gate", draws=8)
    whole = draw_loads(V3, 64, 8, 4096, "gate", draws=8, max_tokens=1 << 30)
    assert sampled_even < 0.2 * unique_cv(whole)
    assert unique_cv(sampled) == pytest.approx(unique_cv(whole), rel=0.06)
    # Same seed, same popularity: rank by rank the sample tells what all tokens do.
    deviation = sampled.unique / whole.unique - 1
    assert deviation.std() < 1.25 * sampled_even
    assert np.all(whole.unique % 1 == 0)


def test_skew_spreads_loads():
    spread = [
        unique_cv(draw_loads(V3, 64, 8, 512, "gate", skew=s, draws=3)) for s in (0.0, 0.1, 0.3)
    ]
    assert spread[0] < spread[1] < spread[2]
    stats = routing_stats(draw_loads(V3, 64, 8, 512, "gate", skew=0.3, draws=3), 8)
    assert stats.max_over_mean_expert > stats.max_over_mean_gpu > stats.max_over_mean_node > 1


def test_default_skew_spreads_loads_as_the_trace_does():
    record = load_record()
    cv = recorded_cv(record)
    assert cv == pytest.approx(0.0762, abs=1e-4)
    loads = draw_loads(V3, 64, 8, 4096, "gate", draws=24, seed=11)
    assert unique_cv(loads) == pytest.approx(cv, rel=0.06)
    assert loads.unique.mean() == pytest.approx(30_679, rel=0.005)
    assert 0.05 < default_skew().value < 0.1


def test_skew_for_cv_finds_the_skew_it_was_given():
    loads = gate_loads(V3, contiguous(256, 16, 8), 512, 0.2, draws=6, seed=0)
    found = skew_for_cv(V3, 16, 8, unique_cv(loads), tokens_per_rank=512, draws=6)
    assert found == pytest.approx(0.2, rel=0.01)
    with pytest.raises(InputError, match="even routing varies"):
        skew_for_cv(V3, 16, 8, 0.001, tokens_per_rank=512, draws=2)


def test_recorded_loads_are_the_traces():
    forward = draw_loads(V3, 64, 8, 4096, "recorded")
    backward = draw_loads(V3, 64, 8, 4096, "recorded", direction="backward")
    assert forward.draws == backward.draws == 4
    assert forward.ranks == 1
    assert forward.unique.ravel().tolist() == [28984, 28856, 34144, 29128]
    assert forward.rows.ravel().tolist() == [31104, 30976, 36864, 31104]
    assert backward.unique.ravel().tolist() == [32120, 30048, 30584, 26592]
    assert backward.rows.ravel().tolist() == [34688, 32512, 32896, 28416]
    even = draw_loads(V3, 64, 8, 4096, "balanced")
    assert forward.ib_in_copies == pytest.approx(even.ib_in_copies[0, 0])
    busy = forward.nvl_in_copies / even.nvl_in_copies[0, 0]
    assert busy == pytest.approx(forward.unique / even.unique[0, 0])
    stats = routing_stats(forward, 8)
    assert stats.max_over_mean_gpu is None
    assert stats.nodes_per_token == pytest.approx(3.97, rel=0.01)


def test_record_must_fit_the_scenario():
    with pytest.raises(InputError) as caught:
        draw_loads(V2, 32, 8, 4096, "recorded")
    keys = [p.key for p in caught.value.problems]
    assert keys == ["setting.experts", "setting.topk", "setting.ep"]


def test_a_bad_record_gets_every_problem_with_its_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "source: 3\nsetting: {experts: 256, topk: 8, ep: -1, gpus_per_node: 8}\n"
        "forward:\n  unique: [1, 2]\n  rows: [1, two]\nbackward:\n  unique: [1, 2, 3]\n"
        "  rows: [128, 128]\nextra: 1\n"
    )
    with pytest.raises(InputError) as caught:
        draw_loads(V3, 64, 8, 4096, "recorded", file=path)
    problems = {p.key: p for p in caught.value.problems}
    assert set(problems) == {
        "extra",
        "source",
        "setting.ep",
        "setting.tokens_per_rank",
        "forward.rows",
        "forward",
    }
    assert problems["forward.rows"].place == f"{path}:5"
    assert re.search(r"backward.unique has 3", problems["forward"].message)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="must be balanced, gate or recorded"):
        draw_loads(V3, 64, 8, 4096, "uniform")
    with pytest.raises(InputError, match="must be at least 1"):
        draw_loads(V3, 64, 8, 0, "balanced")
    with pytest.raises(InputError, match=r"skew -0\.1"):
        draw_loads(V3, 64, 8, 16, "gate", skew=-0.1)


def test_two_dozen_draws_of_the_reference_run_are_quick():
    draw_loads(V3, 64, 8, 64, "gate", draws=1)
    spent = []
    for seed in range(2):
        start = time.process_time()
        draw_loads(V3, 64, 8, 4096, "gate", draws=24, seed=seed)
        spent.append(time.process_time() - start)
    assert min(spent) < 2.5


def test_importing_routing_leaves_numba_out():
    code = "import sys, simdeep.program.routing; sys.exit('numba' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=_checkout(), check=False).returncode == 0
    )


def test_runs_where_nothing_can_be_cached():
    """The only cache folder numba may try cannot be made."""
    code = (
        "import numpy as np\n"
        "from simdeep.program.routing import Gate, select_experts\n"
        "assert select_experts(Gate(4, 1), np.eye(4, dtype='f4')).ravel().tolist() == [0, 1, 2, 3]"
    )
    env = os.environ | {
        "NUMBA_CACHE_DIR": os.devnull,
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    subprocess.run([sys.executable, "-c", code], cwd=_checkout(), env=env, check=True)


def _checkout():
    return Path(simdeep.__file__).parent.parent
