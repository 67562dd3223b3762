"""Which rows of the trace are which kernel records of the workload, phase by phase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simdeep.cost.fit.rows import Row, compute_rows
from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.layer import layer_kernels
from simdeep.program.workload.shape import Shape
from simdeep.program.workload.trace_names import classify
from simdeep.spec.model import load_model

MODEL, FIRST_MOE_LAYER = "deepseek-v3", 3
TOKENS, RANKS, LOCAL_EXPERTS = 4096, 64, 4
RECOMPUTE = ("norm", "mla_up", "swiglu")

PHASES: dict[str, tuple[str, str]] = {
    "attn(F)": ("attn", "F"),
    "attn(B)": ("attn", "I"),
    "attn(W)": ("attn", "W"),
    "mlp(F)": ("mlp", "F"),
    "mlp(B)": ("mlp", "I"),
    "mlp(W)": ("mlp", "W"),
}
"""The trace's compute phases and the workload's component and action."""

FORWARD_UNIQUE = (28984, 28856, 34144, 29128)
BACKWARD_UNIQUE = (32120, 30048, 30584, 26592)
"""Unique tokens received by rank 0 in each layer: blocks of the trace's expert sums."""

STRAY = "gg_fill_tensormaps"
"""Sets up a grouped GEMM's descriptors, in the first layers only."""

ABSENT = ("k_rope_copy_recompute",)
"""Records of a few microseconds that the trace's implementation does without."""


@dataclass(frozen=True, slots=True)
class Match:
    """A kernel record and the rows of one layer that are its launches."""

    phase: str
    layer: int
    record: Kernel
    rows: tuple[Row, ...]


def padded_rows(rows: Sequence[Row], layer: int, op: str) -> float:
    """Expert rows of a layer, padded to 128 an expert, from the size of one of its GEMMs."""
    return next(r.m for r in rows if r.layer == layer and r.op == op)


def shape_of(rows: Sequence[Row], layer: int, phase: str) -> Shape:
    """The micro-batch that a phase of a layer works on: one goes forward, another backward."""
    forward = phase.endswith("(F)")
    unique = FORWARD_UNIQUE if forward else BACKWARD_UNIQUE
    return Shape(
        tokens=TOKENS,
        seq_len=TOKENS,
        ep=RANKS,
        rows=padded_rows(rows, layer, "routed_gateup_fwd" if forward else "routed_down_dgrad"),
        unique=float(unique[layer]),
        local_experts=LOCAL_EXPERTS,
    )


def records(rows: Sequence[Row], layer: int, phase: str) -> tuple[Kernel, ...]:
    """Kernel records of one phase of one layer, at the trace's sizes."""
    model = load_model(MODEL)
    shape = shape_of(rows, layer, phase)
    table = layer_kernels(model, model.layers[FIRST_MOE_LAYER], shape, "fp8", RECOMPUTE)
    return table[PHASES[phase]]


def memory_matches(rows: Sequence[Row]) -> list[Match]:
    """Every memory-bound record of every layer and phase with its rows."""
    layers = sorted({r.layer for r in rows})
    return [m for layer in layers for phase in PHASES for m in _phase(rows, layer, phase)]


def _phase(rows: Sequence[Row], layer: int, phase: str) -> Iterable[Match]:
    """Records of one variant take its rows by size: the larger the record, the longer the row.

    The workload lists kernels in an order of its own where the trace interleaves the shared and the
    routed experts, so order alone would not do. Records of several launches take theirs first.
    """
    mine = [r for r in compute_rows(rows) if r.layer == layer and r.phase == phase]
    waiting = _by_variant(mine)
    wanted: dict[str, list[Kernel]] = defaultdict(list)
    for record in records(rows, layer, phase):
        if record.op == "memory" and record.name not in ABSENT:
            wanted[record.variant].append(record)
    for variant, kernels in wanted.items():
        queue = waiting.pop(variant, [])
        if variant == "gate":
            yield Match(phase, layer, kernels[0], tuple(queue))
            continue
        if sum(k.launches for k in kernels) != len(queue):
            raise ValueError(f"layer {layer} {phase}: {len(queue)} {variant} rows, not as many")
        groups = _runs(kernels, queue)
        singles = [k for k in kernels if k.launches == 1]
        left = [r for r in queue if not any(r in rows for _, rows in groups)]
        left.sort(key=lambda r: r.dur)
        singles.sort(key=lambda k: float(k.bytes))
        for record, taken in [*groups, *((k, (r,)) for k, r in zip(singles, left, strict=True))]:
            yield Match(phase, layer, record, taken)
    if waiting:
        raise ValueError(f"layer {layer} {phase}: rows without a record: {sorted(waiting)}")


def _runs(kernels: Sequence[Kernel], queue: Sequence[Row]) -> list[tuple[Kernel, tuple[Row, ...]]]:
    """Records of several launches with consecutive rows: the last ones of the variant, in order."""
    several = [k for k in kernels if k.launches > 1]
    start = len(queue) - sum(k.launches for k in several)
    found = []
    for record in several:
        found.append((record, tuple(queue[start : start + record.launches])))
        start += record.launches
    return found


def _by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Memory rows of one phase in launch order, by variant.

    Small elementwise rows are the gate's on the router's side of the attention phases; elsewhere
    they end a norm's backward, join the latents' gradients, or (in the experts' phases) are no
    record's.
    """
    found: dict[str, list[Row]] = defaultdict(list)
    names = [r.op for r in rows]
    router = next((i for i, op in enumerate(names) if op in ("router_fwd", "router_dgrad")), None)
    last = ""
    for index, row in enumerate(rows):
        known = classify(row.kernel, row.op, row.dur)
        if known is None:
            raise ValueError(f"unknown kernel {row.kernel}")
        kind, variant = known
        if kind != "memory" or row.kernel.startswith(STRAY):
            last = ""
            continue
        gates = router is not None and (
            index > router if names[router] == "router_fwd" else index < router
        )
        if gates and variant not in ("cast", "topk"):
            variant = "gate"
        elif variant == "gate" and not row.kernel.startswith("at_arange"):
            variant = _helper(row, last)
        if variant:
            found[variant].append(row)
        last = variant or last
    return found


def _helper(row: Row, last: str) -> str:
    """Variant of a small elementwise row outside the gate; empty where it belongs to none."""
    if last == "norm_bwd" and "unrolled" in row.kernel:
        return "norm_bwd"
    if last in ("norm_bwd", "copy") and ("Fill" in row.kernel or "add" in row.kernel):
        return "copy"
    return ""
