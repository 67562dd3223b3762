"""What frameworks do, as effects of the simulator: each against a hand-worked case."""

import dataclasses

import numpy as np
import pytest

from simdeep import api
from simdeep.cost.program import price_work
from simdeep.errors import InputError
from simdeep.program.columns import Kind
from simdeep.program.lower.works import CollectiveWork, P2pWork
from simdeep.program.workload import Shape, activation_bytes, layer_kernels, total_flops
from simdeep.program.workload.shape import Style
from simdeep.published.cases import load_cases
from simdeep.published.frameworks import framework_of
from simdeep.spec.model import load_model
from simdeep.spec.scenario import load_scenario

CASES = {case.id: case for case in load_cases()}
TOKENS = 8192
LLAMA = load_model("llama-3.1-8b")
HIDDEN, INNER, KEYS = 4096, 14336, 1024


WHOLE = Shape(TOKENS, TOKENS)
FUSED = Style()


def llama(shape=WHOLE, recompute="none", style=FUSED):
    return layer_kernels(LLAMA, LLAMA.layers[0], shape, "bf16", recompute, style)


def bytes_of(table, name):
    return sum(k.bytes for kernels in table.values() for k in kernels if k.name.startswith(name))


def toy(**changes):
    return api.simulate(load_scenario("toy-dense", {k: str(v) for k, v in changes.items()}))


def test_every_second_product_is_computed_again():
    plain, again = llama(), llama(recompute="products")
    extra = sum(total_flops(again[key]) - total_flops(plain[key]) for key in plain)
    assert extra == pytest.approx(2 * TOKENS * HIDDEN * (KEYS + HIDDEN + INNER))


@pytest.mark.parametrize(("eager", "last"), [(False, 0), (True, HIDDEN)])
def test_every_second_product_is_kept(eager, last):
    kept = activation_bytes(
        LLAMA, LLAMA.layers[0], Shape(TOKENS, TOKENS), "bf16", "products", eager=eager
    )
    # Input, queries, values, the core's output and sums (FP32, 32 heads), gate; eager: down's too.
    values = HIDDEN + HIDDEN + KEYS + HIDDEN + INNER + last
    assert sum(part.until_i for part in kept.values()) == TOKENS * (2 * values + 4 * 32)


@pytest.mark.parametrize("change", [{"model": "mixtral-8x7b"}, {"train.precision": "fp8"}])
def test_products_need_a_gated_dense_layer(change):
    with pytest.raises(InputError, match="names products"):
        load_scenario("toy-dense", {"train.recompute": "products", **change})


def test_single_operators_move_what_each_reads_and_writes():
    table = llama(style=Style(eager=True))
    # x.float() 2+4, x * x 4+4, mean 4, product 4+4, type_as 4+2, product 2+2.
    assert bytes_of(table, "input_norm_fwd") == 36 * TOKENS * HIDDEN
    assert bytes_of(table, "ffn_act_fwd") == (4 + 6) * TOKENS * INNER
    assert bytes_of(table, "rope_heads") == 2 * TOKENS * (HIDDEN + KEYS) * 2
    flops = [sum(map(total_flops, made.values())) for made in (table, llama())]
    assert flops[0] == flops[1]


def test_parts_of_a_ring_are_joined_by_operators():
    shape, style = Shape(TOKENS, 4 * TOKENS, cp=4), Style(ring_operators=True)
    table = llama(shape, style=style)
    assert bytes_of(table, "attn_ring_fwd") == 3 * 50 * TOKENS * HIDDEN
    assert bytes_of(table, "attn_ring_bwd") == 4 * 72 * TOKENS * HIDDEN
    assert bytes_of(llama(shape), "attn_ring") == bytes_of(llama(style=style), "attn_ring") == 0


def test_nothing_starts_before_an_awaited_send_has_left():
    free, awaited = toy(), toy(**{"train.sends": "[awaited]"})
    assert awaited.step_time_s > free.step_time_s
    timeline = awaited.timeline
    program = timeline.program
    sends = program.component == program.components.index("p2p")
    computes = (program.kind == Kind.COMPUTE) & (program.block >= 0)
    for row in np.flatnonzero(sends):
        later = computes & (program.rank == program.rank[row])
        later &= program.block > program.block[row]
        assert not later.any() or timeline.start_ns[later].min() >= timeline.end_ns[row]


def test_a_scattered_send_crosses_in_parts():
    scenario = load_scenario(
        "toy-dense", {"layout.tp": "2", "layout.sp": "false", "train.sends": "[scattered]"}
    )
    works = api.simulate(scenario).timeline.program.works
    (sent,) = {(w.bytes, w.gather) for w in works if isinstance(w, P2pWork)}
    whole = scenario.train.mbs * scenario.train.seq_len * scenario.model.hidden * 2
    assert sent == (whole / 2, CollectiveWork("all_gather", whole, 1, 2))
    machine = api.machine_of(scenario)
    part = price_work(P2pWork(whole / 2, False), machine)
    both = price_work(P2pWork(whole / 2, False, sent[1]), machine)
    assert both["port0"] == part["port0"]
    assert both["floor"] > part["port0"]
    assert both["latency"] > part["latency"]


def test_the_host_keeps_a_step_waiting():
    change = {"layout.pp": 1, "layout.tp": 1, "layout.sp": "false"}
    plain = toy(**change).step_time_s
    assert toy(**change, **{"train.host_step_ms": 7.5}).step_time_s - plain == pytest.approx(7.5e-3)


def test_exposed_shares_lie_between_full_overlap_and_none():
    change = {"layout.tp": 2, "layout.sp": "true", "train.tp_overlap": "full"}
    times = [toy(**change, **{"train.tp_exposed": x}).step_time_s for x in (0, 0.5, 0.75, 1)]
    assert times[0] == times[1] < times[2] < times[3]


def test_habits_of_some_runs():
    compiled, plain = (CASES[f"torchtitan-8b-{x}"] for x in ("8-compile", "128-fsdp"))
    staged = CASES["torchtitan-405b-4d-65536"]
    titan = framework_of(plain)
    assert titan.train_of(plain)["eager"]
    assert "eager" not in titan.train_of(compiled)
    assert [titan.layout_of(case)["zero"] for case in (plain, staged)] == [3, 1]
    assert titan.train_of(staged)["tp_overlap"] == "full"
    more = dataclasses.replace(staged, pp=16)
    assert titan.layout_of(more)["zero"] == 1
