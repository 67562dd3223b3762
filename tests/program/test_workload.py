"""The workload against the H800 trace, published closed forms, and its own symmetries."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simdeep
from simdeep.errors import InputError
from simdeep.program.workload import (
    Kernel,
    KernelTable,
    Shape,
    activation_bytes,
    edge_activation_bytes,
    edge_kernels,
    kept_tensors,
    layer_kernels,
    model_flops,
    optimizer_kernels,
    policies,
    total_flops,
)
from simdeep.program.workload.kernel import (
    ATTENTION_VARIANTS,
    GEMM_VARIANTS,
    MEMORY_VARIANTS,
    OPS,
)
from simdeep.program.workload.trace_names import BY_NAME, classify
from simdeep.spec.flops import attention_macs, flops_per_token
from simdeep.spec.model import Model, load_model, model_catalogue

TRACE = Path(simdeep.__file__).parent / "data" / "traces" / "h800_train_trace.csv"
DEEPSEEK = ("norm", "mla_up", "swiglu")
TOKENS = 4096
PHASES = {
    "attn(F)": ("attn", "F"),
    "mlp(F)": ("mlp", "F"),
    "mlp(B)": ("mlp", "I"),
    "mlp(W)": ("mlp", "W"),
    "attn(B)": ("attn", "I"),
    "attn(W)": ("attn", "W"),
}
# Layer 1 of the trace: padded expert rows and unique tokens of its two micro-batches.
FORWARD = Shape(TOKENS, TOKENS, ep=64, rows=30976.0, unique=28856.0, local_experts=4)
BACKWARD = Shape(TOKENS, TOKENS, ep=64, rows=32512.0, unique=30048.0, local_experts=4)
BALANCED = Shape(TOKENS, TOKENS, ep=64, rows=TOKENS * 8.0, unique=29000.0, local_experts=4)

Row = dict[str, str]


@cache
def trace() -> list[Row]:
    with TRACE.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["stream_role"] != "comm"]


@cache
def v3() -> Model:
    return load_model("deepseek-v3")


@cache
def traced(phase: str) -> tuple[Kernel, ...]:
    component, action = PHASES[phase]
    shape = FORWARD if action == "F" else BACKWARD
    return layer_kernels(v3(), v3().layers[10], shape, "fp8", DEEPSEEK)[component, action]


def rows_of(phase: str) -> list[Row]:
    return [row for row in trace() if row["phase"] == phase and row["layer"] == "1"]


def all_kernels(table: KernelTable) -> list[Kernel]:
    return [kernel for kernels in table.values() for kernel in kernels]


def shape_for(model: Model, tokens: int = TOKENS) -> Shape:
    topk = max((getattr(layer.ffn, "topk", 0) for layer in model.layers), default=0)
    return Shape(tokens, tokens, rows=float(tokens * topk), unique=float(tokens), local_experts=2)


# -- the trace -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_flops_of_each_phase_are_the_traces(phase: str) -> None:
    measured = sum(float(row["flop"] or 0) for row in rows_of(phase))
    assert total_flops(traced(phase)) == pytest.approx(measured, rel=1e-5)


@pytest.mark.parametrize("phase", PHASES)
def test_every_gemm_of_the_trace_is_there_with_its_sizes(phase: str) -> None:
    ours = {k.name: k for k in traced(phase) if k.op != "memory"}
    theirs = {row["op"].removesuffix("_expert"): row for row in rows_of(phase) if row["op"]}
    assert ours.keys() == theirs.keys()
    for name, row in theirs.items():
        kernel = ours[name]
        assert (kernel.op, kernel.variant) == classify(row["kernel"], row["op"])
        if row["gemm_m"]:
            sizes = tuple(float(row[f"gemm_{d}"]) for d in "mnk")
            assert (kernel.m, kernel.n, kernel.k) == sizes
        experts = sum(r["op"] == f"{name}_expert" for r in rows_of(phase))
        assert kernel.groups == experts or not experts


@pytest.mark.parametrize("phase", PHASES)
def test_small_kernels_are_as_many_as_in_the_trace(phase: str) -> None:
    """The classes whose rows can be told by name; the gate's bookkeeping is only near."""
    seen: dict[str, int] = defaultdict(int)
    for row in rows_of(phase):
        known = classify(row["kernel"], row["op"], float(row["dur_us"]))
        assert known is not None, row["kernel"]
        seen[known[1] if known[0] == "memory" else ""] += 1
    ours: dict[str, int] = defaultdict(int)
    for kernel in traced(phase):
        ours[kernel.variant if kernel.op == "memory" else ""] += kernel.launches
    for variant in MEMORY_VARIANTS.keys() - {"gate", "copy", "norm_bwd"}:
        assert ours[variant] == seen[variant], variant
    assert sum(ours.values()) == pytest.approx(len(rows_of(phase)), abs=6)


@pytest.mark.parametrize("phase", PHASES)
def test_bytes_need_no_more_bandwidth_than_there_is(phase: str) -> None:
    """Bytes over measured time, per class, stay under 3.35 TB/s and are not far too few."""
    spent: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    for row in rows_of(phase):
        known = classify(row["kernel"], row["op"], float(row["dur_us"]))
        if known is not None and known[0] == "memory":
            spent[known[1]] += float(row["dur_us"]) * 1e-6
    for kernel in traced(phase):
        if kernel.op == "memory":
            moved[kernel.variant] += float(kernel.bytes)
    for variant in moved.keys() - {"gate", "mapping", "scales"}:
        assert 0.5e12 < moved[variant] / spent[variant] < 3.35e12, variant


def test_every_long_row_of_the_trace_has_a_class() -> None:
    for row in trace():
        known = classify(row["kernel"], row["op"], float(row["dur_us"]))
        if float(row["dur_us"]) >= 15:
            assert known is not None, row["kernel"]
            valid = {
                "memory": tuple(MEMORY_VARIANTS),
                "attention": ATTENTION_VARIANTS,
            }.get(known[0], GEMM_VARIANTS)
            assert known[1] in valid
    assert set(BY_NAME.values()) <= MEMORY_VARIANTS.keys()
    assert classify("somebody_elses_kernel") is None


# -- FLOPs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [DEEPSEEK, "none", "selective", "full"])
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_v3_sums_to_the_published_250_gflop(precision: str, recompute: str) -> None:
    total = model_flops(all_kernels(edge_kernels(v3(), "head", BALANCED, precision, recompute)))
    for layer in v3().layers:
        table = layer_kernels(v3(), layer, BALANCED, precision, recompute)
        total = total + model_flops(all_kernels(table))
    assert total / TOKENS == pytest.approx(250e9, rel=0.01)
    assert total / TOKENS == pytest.approx(flops_per_token(v3(), TOKENS, True), rel=1e-9)


@pytest.mark.parametrize("name", model_catalogue())
def test_kernels_sum_to_the_closed_form_for_every_model(name: str) -> None:
    model = load_model(name)
    shape = shape_for(model, 1024)
    total = model_flops(all_kernels(edge_kernels(model, "head", shape, "bf16", "none")))
    for layer in model.layers:
        table = layer_kernels(model, layer, shape, "bf16", "none")
        total = total + model_flops(all_kernels(table))
    assert total / 1024 == pytest.approx(flops_per_token(model, 1024, True), rel=1e-9)


def test_mtp_module_adds_its_closed_form() -> None:
    (layer,) = v3().mtp
    tables = [
        layer_kernels(v3(), layer, BALANCED, "fp8", DEEPSEEK),
        edge_kernels(v3(), "mtp_in", BALANCED, "fp8", DEEPSEEK),
        edge_kernels(v3(), "head", BALANCED, "fp8", DEEPSEEK),
    ]
    total = sum(float(model_flops(all_kernels(table))) for table in tables)
    extra = flops_per_token(v3(), TOKENS, True, mtp=True) - flops_per_token(v3(), TOKENS, True)
    assert total / TOKENS == pytest.approx(extra, rel=1e-9)


def test_recomputation_repeats_what_its_policy_names() -> None:
    layer = v3().layers[10]
    forward = layer_kernels(v3(), layer, BALANCED, "fp8", "none")
    up = [k for k in forward["attn", "F"] if k.name in ("q_up_fwd", "kv_up_fwd")]
    core = [k for k in forward["attn", "F"] if k.op == "attention"]
    everything = [k for (_, action), ks in forward.items() if action == "F" for k in ks]
    base = total_flops(all_kernels(forward))
    for policy, again in (("mla_up", up), ("selective", core), ("full", everything), ("norm", [])):
        table = layer_kernels(v3(), layer, BALANCED, "fp8", policy)
        extra = total_flops(all_kernels(table)) - base
        assert extra == pytest.approx(total_flops(again))
    # Even with nothing repeated by choice, flash attention builds its scores twice.
    scores = TOKENS * 2 * attention_macs(v3(), TOKENS, True) * 192 / (192 + 128)
    assert base - model_flops(all_kernels(forward)) == pytest.approx(scores)


def test_wrong_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'swiglu'"):
        policies(["norm", "swiglo"])
    with pytest.raises(InputError, match="precision"):
        layer_kernels(v3(), v3().layers[0], BALANCED, "int4", "none")
    with pytest.raises(InputError, match="moments"):
        optimizer_kernels(1, 1, moments="fp8")
    assert policies("none") == frozenset()


# -- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-70b", "gpt3-175b", "qwen3-235b-a22b"])
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_tensor_parallel_ranks_share_the_work(name: str, precision: str) -> None:
    model = load_model(name)
    layer = model.layers[0]
    whole = layer_kernels(model, layer, Shape(2048, 2048), precision, "none")
    part = layer_kernels(model, layer, Shape(2048, 2048, tp=4, sp=True), precision, "none")
    for key, kernels in whole.items():
        assert [k.name for k in part[key]] == [k.name for k in kernels]
        assert 4 * total_flops(part[key]) == pytest.approx(total_flops(kernels))
    only_tp = layer_kernels(model, layer, Shape(2048, 2048, tp=4), precision, "none")
    norm, norm_sp, norm_tp = (t["attn", "F"][0].bytes for t in (whole, part, only_tp))
    assert norm_sp * 4 == norm == norm_tp


def test_context_parallel_ranks_share_the_attention_matrix() -> None:
    layer = v3().layers[0]
    whole = layer_kernels(v3(), layer, Shape(8192, 8192), "bf16", "none")
    part = layer_kernels(v3(), layer, Shape(2048, 8192, cp=4), "bf16", "none")
    for key, kernels in whole.items():
        assert 4 * total_flops(part[key]) == pytest.approx(total_flops(kernels))


def test_routing_draws_give_arrays_equal_to_single_draws() -> None:
    rows, unique = np.array([30976.0, 36864.0]), np.array([28856.0, 34144.0])
    layer = v3().layers[10]
    many = layer_kernels(
        v3(), layer, Shape(TOKENS, TOKENS, 1, False, 1, 64, rows, unique, 4), "fp8", DEEPSEEK
    )
    for draw in range(2):
        shape = Shape(TOKENS, TOKENS, 1, False, 1, 64, float(rows[draw]), float(unique[draw]), 4)
        one = layer_kernels(v3(), layer, shape, "fp8", DEEPSEEK)
        for key, kernels in one.items():
            for single, several in zip(kernels, many[key], strict=True):
                for size in ("m", "n", "k", "flops", "bytes"):
                    value = np.broadcast_to(getattr(several, size), 2)[draw]
                    assert value == getattr(single, size)
    kept = activation_bytes(
        v3(), layer, Shape(TOKENS, TOKENS, rows=rows, local_experts=4), "fp8", DEEPSEEK
    )
    assert np.shape(kept["mlp"].until_i) == (2,)


# -- precision and classes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", model_catalogue())
@pytest.mark.parametrize("precision", ["fp8", "bf16"])
@pytest.mark.parametrize("recompute", [DEEPSEEK, "none", "full"])
def test_every_kernel_is_of_a_known_class(name: str, precision: str, recompute: str) -> None:
    model = load_model(name)
    shape = shape_for(model)
    tables = [edge_kernels(model, e, shape, precision, recompute) for e in ("embed", "head")]
    tables.append(edge_kernels(model, "mtp_in", shape, precision, recompute))
    tables += [
        layer_kernels(model, layer, shape, precision, recompute)
        for layer in {layer.ffn: layer for layer in model.layers}.values()
    ]
    valid = {"memory": tuple(MEMORY_VARIANTS), "attention": ATTENTION_VARIANTS}
    for kernel in [k for table in tables for k in all_kernels(table)]:
        assert kernel.op in OPS
        assert kernel.variant in valid.get(kernel.op, GEMM_VARIANTS)
        assert kernel.bytes > 0
        assert (kernel.flops > 0) == (kernel.op != "memory")
        if precision == "bf16":
            assert kernel.dtype != "fp8"
            assert kernel.variant not in ("cast", "cast_transpose", "transpose", "scales")


def test_optimizer_moves_each_value_once() -> None:
    step = {k.name: k for k in optimizer_kernels(1e6, 8e6, fp8_weights=7e6)}
    # FP32 gradient in; FP32 master, two BF16 moments in and out; BF16 parameter out.
    assert step["adam"].bytes == 1e6 * (4 + 2 * 4 + 2 * 2 * 2 + 2)
    assert step["grad_clear"].bytes == 8e6 * 4
    assert step["weight_cast"].bytes == 7e6 * 3
    wide = {k.name: k for k in optimizer_kernels(1e6, 8e6, moments="fp32")}
    assert wide["adam"].bytes == 1e6 * (4 + 2 * 4 + 2 * 2 * 4 + 2)
    assert "weight_cast" not in wide


# -- activations ---------------------------------------------------------------------------------


def gpt3_bytes(shape: Shape, recompute: str, *, flash: bool = False) -> float:
    model = load_model("gpt3-175b")
    kept = activation_bytes(
        model, model.layers[0], shape, "bf16", recompute, flash=flash, dropout=True
    )
    return float(sum(k.until_i for k in kept.values()))


def test_gpt3_activations_are_korthikantis_closed_forms() -> None:
    """arXiv 2205.05198 table 2, bytes for each layer."""
    model = load_model("gpt3-175b")
    s, b, h, a, t = 2048, 2, model.hidden, model.n_heads, 8
    sbh = s * b * h
    one = Shape(s * b, s)
    assert gpt3_bytes(one, "none") == sbh * (34 + 5 * a * s / h)
    assert gpt3_bytes(one, "selective") == sbh * 34
    assert gpt3_bytes(one, "full") == sbh * 2
    tensor = Shape(s * b, s, tp=t)
    assert gpt3_bytes(tensor, "none") == sbh * (10 + 24 / t + 5 * a * s / (h * t))
    assert gpt3_bytes(tensor, "selective") == sbh * (10 + 24 / t)
    sequence = Shape(s * b, s, tp=t, sp=True)
    assert gpt3_bytes(sequence, "none") == sbh / t * (34 + 5 * a * s / h)
    assert gpt3_bytes(sequence, "selective") == sbh / t * 34
    # Flash attention keeps a sum for each query and head instead of the matrix.
    assert gpt3_bytes(one, "none", flash=True) == sbh * 34 + s * b * a * 4


def test_v3_keeps_what_deepseek_says() -> None:
    """arXiv 2412.19437 sec 3.2.3, 3.3.3: latents, E5M6 core output, FP8 rows, SwiGLU input."""
    tile = 4 / 128
    tensors = {
        (t.component, t.tensor): float(t.until_i) / TOKENS
        for t in kept_tensors(v3(), v3().layers[10], BALANCED, "fp8", DEEPSEEK)
        if np.any(t.until_i)
    }
    assert tensors == {
        ("attn", "input"): 2 * 7168,
        ("attn", "post_norm_input"): 2 * 7168,
        ("attn", "router_scores"): 256 * 4 + 8 * 12,
        ("attn", "core_output"): 128 * 128 * (1.5 + tile),
        ("attn", "latents"): (1536 + 512 + 64) * 2,
        ("attn", "softmax_sums"): 128 * 4,
        ("mlp", "received_rows"): 8 * 7168 * (1 + tile),
        ("mlp", "routed_act_input"): 8 * 4096 * (1 + tile),
        ("mlp", "row_weights_and_map"): 8 * 12,
        ("mlp", "shared_act_input"): 4096 * (1 + tile),
    }


def test_operands_of_weight_gradients_wait_in_fp8() -> None:
    until_w = {
        c: float(k.until_w) / TOKENS / (1 + 4 / 128)
        for c, k in activation_bytes(v3(), v3().layers[10], BALANCED, "fp8", DEEPSEEK).items()
    }
    projections = [(7168, 1536), (1536, 24576), (7168, 576), (512, 32768), (16384, 7168)]
    assert until_w["attn"] == pytest.approx(sum(k + n for k, n in projections))
    # One shared expert on every token, eight routed ones.
    assert until_w["mlp"] == pytest.approx((1 + 8) * (7168 + 4096 + 2048 + 7168))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["deepseek-v3", "deepseek-v2-lite", "llama-3.1-8b", "qwen3-235b-a22b"]),
    precision=st.sampled_from(["fp8", "bf16"]),
    base=st.sets(st.sampled_from(["norm", "mla_up", "swiglu", "selective"])),
    more=st.sampled_from(["norm", "mla_up", "swiglu", "selective", "full"]),
    tokens=st.sampled_from([128, 1000, 4096]),
)
def test_more_recomputation_never_keeps_more_nor_computes_less(
    name: str, precision: str, base: set[str], more: str, tokens: int
) -> None:
    model = load_model(name)
    layer, shape = model.layers[-1], shape_for(model, tokens)
    less, greater = sorted(base), sorted({*base, more})
    before = activation_bytes(model, layer, shape, precision, less)
    after = activation_bytes(model, layer, shape, precision, greater)
    assert sum(k.until_i for k in after.values()) <= sum(k.until_i for k in before.values())
    few, many = (
        total_flops(all_kernels(layer_kernels(model, layer, shape, precision, r)))
        for r in (less, greater)
    )
    if more != "full":  # `full` stands for every other policy, so theirs are not added to it
        assert many >= few


def test_edges_keep_what_their_backward_reads() -> None:
    shape = Shape(TOKENS, TOKENS)
    head = edge_activation_bytes(v3(), "head", shape, "fp8", DEEPSEEK)["head"]
    logits, hidden = TOKENS * 129280 * 2, TOKENS * 7168 * 2
    assert head == (hidden + logits + TOKENS * 4, hidden + logits)
    plain = edge_activation_bytes(v3(), "head", shape, "fp8", "none")["head"]
    assert plain.until_i - head.until_i == hidden
    embed = edge_activation_bytes(v3(), "embed", shape, "fp8", DEEPSEEK)["embed"]
    assert embed == (TOKENS * 8, TOKENS * 8 + hidden)
    mtp = edge_activation_bytes(v3(), "mtp_in", shape, "bf16", DEEPSEEK)["mtp_in"]
    assert mtp.until_i == 2 * hidden + TOKENS * 8


def test_logits_come_in_chunks_that_add_up() -> None:
    table = edge_kernels(v3(), "head", Shape(2500, 2500), "fp8", DEEPSEEK)
    parts = [k for k in table["head", "F"] if k.name == "head_fwd"]
    assert len(parts) == 3
    assert sum(float(k.m) for k in parts) == pytest.approx(2500)
    assert {k.dtype for k in parts} == {"bf16"}
    loss = sum(float(k.bytes) for ks in table.values() for k in ks if k.variant == "loss")
    assert loss == pytest.approx(3 * 2500 * 129280 * 2)
