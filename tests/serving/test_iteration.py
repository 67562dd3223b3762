"""Iterations: against published serving figures, hand-worked sums, and each engine."""

import dataclasses as dc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.serving.deployment import Unit, units_of
from simdeep.serving.iteration import OutsideTableError, iteration, iteration_table
from simdeep.serving.iteration.order import COMPUTE
from simdeep.serving.iteration.table import IterationTable
from simdeep.spec.model import load_model
from simdeep.spec.scenario import load_scenario
from simdeep.spec.topology import load_topology


def unit(name: str, role: str, **changes: object) -> Unit:
    return dc.replace(units_of(load_scenario(name))[role], **changes)


def small(**changes: object) -> Unit:
    """A few layers of DeepSeek-V3 over the eight GPUs of a node."""
    v3 = load_model("deepseek-v3")
    few = dc.replace(v3, name="v3-few", layers=(v3.layers[0], *v3.layers[3:6]))
    made = Unit("decode", few, load_topology("h800-2048"), dp=8, ep=8, draws=2)
    return dc.replace(made, **changes)


def at_speed(decode: Unit, tokens_per_s: float, context: float) -> tuple[float, float]:
    """(rows, tokens a second and node) at which each user gets so many tokens a second."""
    low, high = 8.0, 256.0
    for _ in range(20):
        rows = (low + high) / 2
        found = iteration(decode, 0, rows, context)
        low, high = (rows, high) if found.tokens_per_s_per_user > tokens_per_s else (low, rows)
    return rows, found.tokens_per_s_per_node


def test_production_decode_at_the_published_speed():
    # open-infra-index day 6: 14.8K tokens/s a node at 20 to 22 tokens/s a user, mean KV 4,989.
    rows, node = at_speed(unit("dsv3-decode-ep144", "decode"), 21.0, 4989)
    assert node == pytest.approx(14_800, rel=0.15)
    assert 80 < rows < 110


def test_prefill_profile():
    # deepseek-ai/profile-data: 16K tokens a GPU, prompts of 4K, EP32; 7,839 tokens/s a GPU
    # (alibaba/InferSim README, read from that profile).
    found = iteration(unit("dsv3-prefill-ep32", "prefill"), 16384, 0, 2048)
    assert found.tokens_per_s_per_gpu == pytest.approx(7839, rel=0.06)


def sglang_prefill(tokens: int, **changes) -> float:
    """Tokens/s a node of a unit of four H100 nodes, 16K tokens a GPU, prompts of so many."""
    base = unit("dsv3-decode-h100-12nodes", "prefill", dp=32, ep=32)
    prompts = dc.replace(base, prompt_tokens=float(tokens), **changes)
    return iteration(prompts, 16384, 0, tokens / 2).tokens_per_s_per_node


def test_sglang_prefill_on_h100s():
    # LMSYS blog of 5 May 2025: 59,337 with random routing and prompts of 4K; with real prompts
    # 50,302 of them, and 57,674 of 1K.
    random, real = sglang_prefill(4096), sglang_prefill(4096, prompt_spread=3.0)
    assert random == pytest.approx(59_337, rel=0.15)
    assert real / random == pytest.approx(50_302 / 59_337, rel=0.02)
    short = sglang_prefill(1024, prompt_spread=3.0)
    assert short / real == pytest.approx(57_674 / 50_302, rel=0.06)


def test_batches_of_many_sequences_are_more_alike():
    base = unit("dsv3-prefill-ep32", "prefill", prompt_spread=3.0, prompt_tokens=4096.0)
    # 32 GPUs of 16K tokens in two micro-batches: 64 prompts of 4K.
    assert base.with_batch(16384, 0).stale == pytest.approx(3 / 64**0.5, abs=0.0051)
    assert base.with_batch(2048, 0).stale == pytest.approx(3 / 16**0.5, abs=0.0051)
    decode = unit("dsv3-decode-ep144", "decode", prompt_spread=3.0)
    assert decode.with_batch(0, 96).stale == pytest.approx(3 / (96 * 72) ** 0.5, abs=0.0051)
    aged = dc.replace(base, stale=0.5)
    assert aged.with_batch(16384, 0).stale == pytest.approx((0.25 + 9 / 64) ** 0.5, abs=0.0051)
    alike = dc.replace(base, prompt_spread=0.0)
    assert alike.with_batch(16384, 0) == alike


def test_sglang_decode_on_h100s():
    # LMSYS blog of 5 May 2025: 22,282 output tokens/s a node, 256 sequences a GPU, input 2,000.
    found = iteration(unit("dsv3-decode-h100-12nodes", "decode"), 0, 256, 2050)
    assert found.tokens_per_s_per_node == pytest.approx(22_282, rel=0.15)


def test_dense_iteration_without_micro_batches_is_the_sum_of_its_stages():
    llama = unit("llama70b-serve-h100", "mixed", tp=1)
    found = iteration(llama, 512, 16, 1000)
    assert found.seconds == pytest.approx(sum(found.parts.values()), abs=2e-6)
    assert found.exposed_comm_s == 0


def test_overlap_hides_transfers_and_nothing_more():
    both = iteration(small(microbatches=2), 0, 128, 4096)
    compute = both.seconds - both.exposed_s
    transfers = both.parts["dispatch"] + both.parts["combine"]
    assert max(compute, transfers) <= both.seconds < compute + transfers
    alone = iteration(small(microbatches=1), 0, 128, 4096)
    assert alone.exposed_comm_s > 0.5 * (alone.parts["dispatch"] + alone.parts["combine"])


def test_both_engines_give_the_same_timeline():
    one = iteration(small(mtp_tokens=1), 0, 64, 2000).timeline
    other = iteration(small(mtp_tokens=1, engine="reference"), 0, 64, 2000).timeline
    np.testing.assert_array_equal(one.start_ns, other.start_ns)
    np.testing.assert_array_equal(one.end_ns, other.end_ns)


def test_five_stages_of_decode_and_four_steps_of_prefill():
    """The order of compute in a layer, as deepseek-ai/profile-data shows it."""

    def order(one: Unit, tokens: float, rows: float) -> list[tuple[str, int]]:
        p = iteration(one, tokens, rows, 1000).timeline.program
        names = [p.components[c] for c in p.component]
        mine = (p.rank == 0) & (p.stream == COMPUTE) & (p.layer == 2)
        wanted = {"core": "attn", "shared": "shared", "experts": "mlp", "project": "proj"}
        return [
            (wanted[names[i]], int(p.microbatch[i]))
            for i in np.flatnonzero(mine)
            if names[i] in wanted
        ]

    decode = order(small(), 0, 64)
    assert decode == [
        ("proj", 0),
        ("attn", 0),
        ("shared", 0),
        ("proj", 1),
        ("mlp", 0),
        ("attn", 1),
        ("shared", 1),
        ("mlp", 1),
    ]
    prefill = [x for x in order(small(role="prefill"), 4096, 0) if x[0] != "proj"]
    assert prefill == [
        ("attn", 0),
        ("attn", 1),
        ("mlp", 0),
        ("mlp", 1),
        ("shared", 0),
        ("shared", 1),
    ]


@settings(max_examples=15, deadline=None)
@given(
    rows=st.floats(1, 200), more=st.floats(1.1, 3), context=st.integers(1, 50_000), sp=st.booleans()
)
def test_more_work_is_never_faster(rows, more, context, sp):
    u = small(microbatches=1, tp=4 if sp else 1, sp=sp, dp=2 if sp else 8)
    base = iteration(u, 0, rows, context).seconds
    assert iteration(u, 0, rows * more, context).seconds >= base * 0.999
    assert iteration(u, 0, rows, context * more).seconds >= base * 0.999


def test_launches_without_graphs_cost_time():
    graphs, eager = (iteration(small(cuda_graphs=g), 0, 8, 500) for g in (True, False))
    assert eager.seconds > 1.03 * graphs.seconds
    # The host launches kernel by kernel, and the iteration cannot end before its last launch.
    assert eager.parts["launch"] > 100 * graphs.parts["launch"]
    assert eager.seconds > eager.parts["launch"]


def test_moved_popularity_slows_the_busiest_gpu():
    times = [iteration(small(stale=s, microbatches=1), 0, 256, 1000).seconds for s in (0, 0.5, 1.5)]
    assert times[0] < times[1] < times[2]


def test_replicas_even_out_popular_experts():
    hot = small(skew=0.8, microbatches=1, draws=4)
    assert iteration(dc.replace(hot, redundant=64), 0, 512, 100).parts["experts"] < (
        iteration(hot, 0, 512, 100).parts["experts"] * 1.2
    )


def test_accepted_tokens_of_speculative_decoding():
    assert small(mtp_tokens=1, mtp_acceptance=0.85).accepted_tokens == pytest.approx(1.85)
    assert small(mtp_tokens=3, mtp_acceptance=0.5).accepted_tokens == pytest.approx(1.875)
    useless = iteration(small(mtp_tokens=1, mtp_acceptance=0.0), 0, 64, 2000)
    assert useless.tokens_per_s_per_user < iteration(small(), 0, 64, 2000).tokens_per_s_per_user


def test_formats_of_weights_and_cache():
    def seconds(**changes: object) -> float:
        return iteration(small(microbatches=1, **changes), 0, 16, 20_000).seconds

    assert seconds(weights="fp4") < seconds(weights="fp8") < seconds(weights="bf16")
    grouped = unit("llama70b-serve-h100", "mixed")
    times = [
        iteration(dc.replace(grouped, kv=kv), 0, 64, 30_000).parts["core"]
        for kv in ("fp4", "fp8", "bf16")
    ]
    assert times == sorted(times)
    assert times[2] == pytest.approx(2 * times[1], rel=0.1)


def test_table_is_exact_on_its_grid_and_linear_between():
    table = IterationTable(
        np.array([0.0, 10.0]),
        np.array([1.0, 3.0]),
        np.array([5.0]),
        np.arange(4.0).reshape(2, 2, 1),
    )
    np.testing.assert_allclose(table.at([0, 10, 5, 0], [1, 3, 2, 2], 5), [0, 3, 1.5, 0.5])
    for wrong in ((11, 1, 5), (0, 0.5, 5), (0, 1, 6)):
        with pytest.raises(OutsideTableError, match="outside of the iteration table"):
            table.at(*wrong)


def test_table_of_a_unit_is_near_the_simulation():
    one = small(max_rows=96, max_context=16_384)
    table = iteration_table(one)
    assert table.at(0, 64, 8192) == pytest.approx(iteration(one, 0, 64, 8192).seconds)
    for rows, context in ((20, 3000), (75, 12_000), (3, 700)):
        direct = iteration(one, 0, rows, context).seconds
        assert table.at(0, rows, context) == pytest.approx(direct, rel=0.05)
    mixed = iteration_table(dc.replace(one, role="mixed", chunk_tokens=2048))
    assert mixed.at(0, 0, 1) == 0
    assert mixed.at(2048, 96, 100) > mixed.at(0, 96, 100) > 0


def test_nothing_to_do_is_refused():
    for tokens, rows, context in ((0, 0, 10), (-1, 2, 10), (0, 2, -10)):
        with pytest.raises(InputError, match="iteration"):
            iteration(small(), tokens, rows, context)
