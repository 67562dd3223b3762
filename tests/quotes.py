"""What the documentation says about results, written anew from the files that hold them.

`QUOTES` lists for each page the texts that must stand in it and the command that made them, which
must stand in it too. Figures come from `reports/gallery.json` (whose commands CI runs again), from
measurements kept in `reports/` and from shipped calibration files: never from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdeep.cost.calibration import Calibration

ROOT = Path(__file__).parents[1]

Quote = tuple[str, str]
"""The command of a figure, and the text it is quoted in."""


def _report(name: str) -> Any:
    return json.loads((ROOT / "reports" / f"{name}.json").read_text(encoding="utf-8"))


GALLERY = _report("gallery")


def made(name: str) -> dict[str, float]:
    """Figures of an entry of the gallery."""
    return GALLERY[name]["figures"]


def command(name: str) -> str:
    """The command of an entry of the gallery."""
    return GALLERY[name]["command"]


def off(found: float, published: float, digits: int = 1) -> str:
    """How far off, signed."""
    return f"{found / published - 1:+.{digits}%}"


STEP, PAIR, UNFOLDED = made("v3-step"), made("measured-pair"), made("v3-unfolded")
PUBLISHED_HOURS, PUBLISHED_DAYS, PUBLISHED_PAIR_MS = 180e3, 3.7, 128.5
PUBLISHED_MFU, PUBLISHED_MFU_CAUSAL = 0.437, 0.389


def readme() -> Iterator[Quote]:
    """How far off the answer is."""
    run, hours = command("v3-step"), "GPU-hours per trillion tokens"
    pair = PAIR["simulated (ms)"]
    yield (
        command("measured-pair"),
        f"| overlapped pair of four MoE layers | {pair:.1f} ms | {PUBLISHED_PAIR_MS} ms | "
        f"{off(pair, PUBLISHED_PAIR_MS)} |",
    )
    yield (
        run,
        f"| GPU-hours per trillion tokens | {STEP[hours] / 1e3:.1f} K | 180 K | "
        f"{off(STEP[hours], PUBLISHED_HOURS)} |",
    )
    unfolded = off(UNFOLDED[hours], PUBLISHED_HOURS)
    text = f"| the same, every GPU simulated | {UNFOLDED[hours] / 1e3:.1f} K | 180 K | {unfolded} |"
    yield command("v3-unfolded"), text
    yield command("v3-unfolded"), f"{unfolded[1:]} under the published hours"
    days = STEP["days per trillion tokens"]
    text = f"| days per trillion tokens | {days:.2f} | 3.7 | {off(days, PUBLISHED_DAYS)} |"
    yield run, text
    mfu, causal = STEP["MFU"], STEP["MFU, causal"]
    yield (
        run,
        f"| MFU, non-causal and causal | {mfu:.1%}, {causal:.1%} | 43.7%, 38.9% | "
        f"{off(mfu, PUBLISHED_MFU)}, {off(causal, PUBLISHED_MFU_CAUSAL)} |",
    )
    held_out = made("fidelity")["mean absolute error, half held out"]
    yield command("fidelity"), f"off by {held_out:.1%} in the mean on the half"


def accuracy() -> Iterator[Quote]:
    """The pair, the step, and the tables of published runs."""
    diff = command("measured-pair")
    for phase in ("attn(F)", "mlp(B)", "mlp(W)", "mlp(F)", "attn(B)", "attn(W)"):
        found, trace = PAIR[f"{phase}, simulated (ms)"], PAIR[f"{phase}, measured (ms)"]
        yield diff, f"| {phase} | {found:.2f} | {trace:.2f} | {off(found, trace)} |"
    pair = PAIR["simulated (ms)"]
    text = f"| whole pair | {pair:.1f} | {PUBLISHED_PAIR_MS} | {off(pair, PUBLISHED_PAIR_MS)} |"
    yield diff, text
    yield diff, f"any stream's first kernel {PAIR['measured, first kernel to last (ms)']:.1f} ms"
    effects = STEP["effect: routing imbalance (s)"] + STEP["effect: kernel jitter (s)"]
    kept = UNFOLDED["step (s)"] - (STEP["step (s)"] - effects)
    hours = UNFOLDED["GPU-hours per trillion tokens"]
    yield command("v3-step"), f"two effects shrink from {effects:.1f} s to {kept:.1f} s"
    yield (
        command("v3-unfolded"),
        f"the step from {STEP['step (s)']:.1f} s to {UNFOLDED['step (s)']:.1f} s, "
        f"{off(hours, PUBLISHED_HOURS)[1:]} under the published figure",
    )
    yield from _published(made("fidelity"))


def _published(found: dict[str, float]) -> Iterator[Quote]:
    said = command("fidelity")
    limits = {
        "bubble rate: largest difference": 0.005,
        "stated layout and precision: MAPE": 0.08,
        "H100, H800 and B200, known schedule: MAPE": 0.05,
        "vTrain: MAPE": 0.1,
        "SimuMax: MAPE": 0.05,
        "SimuMax: MAPE of peak memory": 0.02,
        "Kendall's tau of the median family, at least": 0.9,
        "peak memory: MAPE": 0.08,
    }
    for name, limit in limits.items():
        value = found[name]
        holds = value >= limit if name.endswith("at least") else value <= limit
        yield said, f"| {name} | {limit:g} | {value:.4f} | {'holds' if holds else '**missed**'} |"
    families = [key.split(": ")[1] for key in found if key.startswith("test: ")]
    for family in dict.fromkeys(families):
        name = "all iteration times" if family == "all" else family
        form = ".4f" if family.endswith("rates") else ".1%"
        cells = [name]
        for half in ("test", "fit"):
            n, mape, bias = (found[f"{half}: {family}: {key}"] for key in ("n", "mape", "bias"))
            cells += [f"{n:.0f}", f"{mape:{form}}", f"{bias:+{form}}"]
            if half == "test":
                cells.append(f"{found[f'test: {family}: kendall']:.2f}")
        yield said, f"| {' | '.join(cells)} |"
        if f"test: {family}: memory_n" in found:
            n, mape, bias = (found[f"test: {family}: memory_{k}"] for k in ("n", "mape", "bias"))
            yield said, f"| {family} | {n:.0f} | {mape:.1%} | {bias:+.1%} |"
    of = {key.removeprefix("test: "): value for key, value in found.items()}
    yield said, f"(up to {of['bubble rate: largest difference']:.3f} off)"
    yield said, f"**torchtitan** ({of['torchtitan: mape']:.0%})"
    yield said, f"**vTrain** ({of['vtrain: mape']:.1%})"
    yield said, f"**Megatron-Bridge** ({of['megatron-bridge: mape']:.0%})"
    yield said, f"**Zero-bubble** ({of['zero-bubble: bias']:.0%})"
    yield said, f"**torchtitan's peaks** ({of['torchtitan: memory_mape']:.0%})"


def calibration() -> Iterator[Quote]:
    """Left-out errors as the shipped files have them, and the layer on an H100 and an H200."""
    from simdeep.calibrate.rows import read_rows
    from simdeep.cost.calibration import load_calibration

    fit = "simdeep calibrate --rows"
    measured = ROOT / "simdeep" / "data" / "calibration" / "measured"
    rows = {name: read_rows(measured / f"{name}.csv") for name in ("h100", "h200")}
    for name, found in rows.items():
        yield fit, f"`measured/{name}.csv`, {len(found):,} rows"
    h100, h200 = load_calibration("h100"), load_calibration("h200")
    for (dtype, kind), curve in h100.tiled.items():
        mine, other = curve.provenance, h200.tiled[dtype, kind].provenance
        assert mine.rows == other.rows
        cells = [f"{dtype} {kind.replace('_', ' ')}", str(mine.rows)]
        for errors in (mine, other):
            cells += [f"{errors.median_error:.1%}", f"{errors.p90_error:.1%}"]
        yield fit, f"| {' | '.join(cells)} |"
    lost = [c.tiled["bf16", "fwd"].lost_sms for c in (h100, h200)]
    yield fit, f"({lost[0]:.0f} on the H100, {lost[1]:.0f} on the H200)"
    power = h200.power
    assert power is not None
    yield fit, f"idle and busy power ({power.idle_w:.0f} W, {power.busy_w:.0f} W) are its own"
    backward = h200.attention["bf16", "bwd:192x128"].provenance
    yield fit, f"but {backward.median_error:.0%} for the H200's backward with heads of 192/128"
    cores = [r for r in rows["h200"] if (r.name, r.variant, r.v_dim) == ("cudnn", "bwd", 128)]
    cores = [r for r in cores if r.group == "attention" and r.qk_dim == 192]
    odd = max(cores, key=lambda r: (r.high_us - r.low_us) / r.us)
    text = f"read between {odd.low_us / 1e3:.1f} and {odd.high_us / 1e3:.1f} ms"
    yield fit, text
    yield from _layers(h100, h200)


def _layers(h100: Calibration, h200: Calibration) -> Iterator[Quote]:
    """The layer's table and what is said of it."""
    from simdeep.spec.hardware import load_gpu
    from simdeep.validate.gpu import compare_layer, layer_kernel_table, predict_layer, predict_piece

    command = "simdeep validate gpu"
    mine, other = _report("gpu-h100"), _report("gpu-h200")
    for name in ("F", "I", "W"):
        both = [_named(layer["layer_us"], name) for layer in (mine, other)]
        yield command, _row(name, both, 1e-3, ".2f", " ms")
    for name in ("gemm", "attention"):
        both = [_named(layer["slow_down_by_held_sms"], name) for layer in (mine, other)]
        yield command, _row(f"{name} beside 20 held SMs", both, 1.0, ".3f", " times")
    both = [layer["forward_beside_backward_us"] for layer in (mine, other)]
    yield command, _row("F beside B", both, 1e-3, ".2f", " ms")

    error = {row["name"]: row["error"] for row in other["layer_us"]}
    yield command, f"the experts' forward is predicted {error['mlp.F']:.0%} too slow"
    times, table = other["measured_us"], layer_kernel_table()
    experts = [kernel for kernel in table["mlp", "F"] if kernel.op == "grouped_gemm"]
    apart = [predict_piece([k], h200, 0) / times["kernels"][k.name] - 1 for k in experts]
    yield command, f"by itself is within {max(map(abs, apart)):.0%}"
    alone = sum(times["kernels"][kernel.name] for kernel in table["mlp", "F"])
    faster = 1 - times["components"]["mlp.F"] / alone
    yield command, f"in the layer its kernels ran {faster:.0%} faster than by themselves"
    clock = other["clock_mhz"]
    text = f"({clock['predicted']:,.0f} MHz predicted, {clock['measured']:,.0f} MHz read)"
    yield command, text
    scaled = compare_layer(predict_layer(h100.on(load_gpu("h200"))), times)
    said = ", ".join(f"{c.name} {c.error:+.1%}" for c in scaled if c.judged)
    yield command, f"nearer for F and farther off for the rest: {said}."
    swiglu = next(kernel for kernel in table["mlp", "I"] if kernel.name == "routed_act_bwd")
    yield (
        command,
        f"SwiGLU backward is {predict_piece([swiglu], h200, 0):.0f} us by the H200's rows and took "
        f"{times['kernels'][swiglu.name]:.0f} us in its layer",
    )

    error = {row["name"]: row["error"] for row in mine["layer_us"]}
    worst = max(abs(value) for value in error.values())
    yield command, f"Each component is within {worst:.0%}."
    clock = mine["clock_mhz"]
    yield (
        command,
        f"forward is predicted {error['mlp.F']:.0%} too slow (clock of the layer: "
        f"{clock['predicted']:,.0f} MHz predicted, {clock['measured']:,.0f} read), "
        f"weight gradient {-error['mlp.W']:.0%} too fast",
    )
    single = _named(mine["slow_down_by_held_sms"], "kv_up_fwd")["error"]
    besides = _named(other["slow_down_by_held_sms"], "routed_gateup_fwd")["error"]
    yield (
        command,
        f"single GEMMs are up to {single:.0%} off on the H100 (`kv_up` forward) and {besides:.0%} "
        "on the H200 (`routed_gateup` forward)",
    )


def _named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def _row(said: str, rows: list[dict[str, Any]], scale: float, form: str, unit: str) -> str:
    cells = [said]
    for row in rows:
        cells += [f"{row[key] * scale:{form}}{unit}" for key in ("predicted", "measured")]
        cells.append(f"{row['error']:+.1%}")
    return f"| {' | '.join(cells)} |"


def hooks() -> Iterator[Quote]:
    """Expert parallel layers on two processes."""
    moves = ("dispatch F", "combine F", "combine B", "dispatch B")
    report = _report("moe-cpu")
    for point in report["points"]:
        error = {name: phase["error"] for name, phase in point["phases"].items()}
        transfers = sorted((error[name] for name in moves), reverse=True)
        even = point["imbalance"]
        cells = [
            str(point["tokens_per_rank"]),
            *(f"{error[name]:+.0%}" for name in ("experts F", "experts B")),
            f"{transfers[0]:+.0%} to {transfers[-1]:+.0%}",
            *(f"{error[name]:+.0%}" for name in ("layer F", "layer B")),
            f"{even['predicted']:.3f}, {even['measured']:.3f}",
            f"{point['gradient_error']:.1e}",
        ]
        yield "simdeep validate moe --procs 2", f"| {' | '.join(cells)} |"
    layers, phases = (
        max(
            abs(phase["error"])
            for point in report["points"]
            for name, phase in point["phases"].items()
            if name.startswith("layer") == whole
        )
        for whole in (True, False)
    )
    said = f"Whole layers are off by up to {layers:.0%}, single phases by up to {phases:.0%}"
    yield "simdeep validate moe --procs 2", said


def validation() -> Iterator[Quote]:
    """Two real ranks."""
    report = _report("pipeline-cpu")
    ordering = report["ordering"]
    command = "simdeep validate pipeline"
    yield command, f"median {report['median_error']:.1%}, worst {report['worst_error']:.1%}"
    yield command, f"{ordering['right']} of {ordering['pairs']} pairs"


def network() -> Iterator[Quote]:
    """DeepEP's table; the published half is in `simdeep/data/alltoall`."""
    published = {
        8: ("EP8 (NVLink)", "NVLink", 153, 158, "NVLink"),
        16: ("EP16 (RDMA)", "IB", 43, 43, "NVLink"),
        32: ("EP32 (RDMA)", "IB", 58, 57, "IB"),
        64: ("EP64 (RDMA)", "IB", 51, 50, "IB"),
    }
    for ep, (group, over, dispatch, combine, bottleneck) in published.items():
        found = made(f"deepep-ep{ep}")
        form = ".0f" if ep == 8 else ".1f"
        sent, back = (found[f"{way} over {over} (GB/s)"] for way in ("dispatch", "combine"))
        yield (
            "simdeep alltoall --max-nodes 4 --ep",
            f"| {group} | {sent:{form}} / {dispatch} | {back:{form}} / {combine} | {bottleneck} |",
        )


def planner() -> Iterator[Quote]:
    """What the planner makes of DeepSeek's cluster."""
    plans, free = made("plan-v3"), made("plan-v3-free")
    best, second = plans["step of the best plan (s)"], plans["step of the second plan (s)"]
    yield (
        command("plan-v3"),
        f"is second of {plans['legal candidates']:,.0f} candidates, {1e3 * (second - best):.0f} ms "
        "behind",
    )
    ahead = best / free["step of the best plan (s)"] - 1
    yield command("plan-v3-free"), f"would lead by {ahead:.1%}"
    faster = 1 - plans["step of the best that does not fit (s)"] / second
    yield (
        command("plan-v3"),
        f"EP32 without TP would be {faster:.0%} faster but needs "
        f"{plans['its memory (GiB)']:.1f} of 79.1 GiB",
    )


def digits(value: float, number: int = 3) -> str:
    """A figure of so many digits: 81,700; 229.5 with four."""
    rounded = float(f"{value:.{number}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (number - 1) else f"{rounded:,g}"


def serving() -> Iterator[Quote]:
    """Iterations beside published ones."""
    rows = (
        ("prefill-ep32", "tokens/s a GPU", 7_839, "7,839"),
        ("decode-ep144", "tokens/s a node", 14_800, "14,800 (mean of a day)"),
        ("decode-ep72", "tokens/s a node", 22_282, "22,282"),
    )
    for name, key, published, printed in rows:
        found = made(name)[key]
        yield command(name), f"| {digits(found)} | {printed} | {off(found, published, 0)} |"


def serving_requests() -> Iterator[Quote]:
    """DeepSeek's day of serving, a sample of windows: three digits."""
    day, run = made("serving-day"), command("serving-day")
    taken, given = day["input tokens/s a prefill node"], day["output tokens/s a decode node"]
    yield run, f"| {digits(taken)} | 73,700 | {off(taken, 73_700)} |"
    yield run, f"| {digits(given)} | 14,800 | {off(given, 14_800)} |"
    nodes, dollars = day["nodes, mean"], day["dollars a day"]
    yield run, f"| {nodes:.1f} | 226.75 | {off(nodes, 226.75)} |"
    yield run, f"| ${digits(dollars)} | $87,072 | {off(dollars, 87_072)} |"
    few, many = 1 - day["of prefill"] / 95.5, day["of decode"] / 131.25 - 1
    yield (
        run,
        f"{day['of prefill']:.1f} of prefill are {few:.0%} too few, "
        f"{day['of decode']:.1f} of decode {many:.0%} too many",
    )


QUOTES: dict[str, Callable[[], Iterator[Quote]]] = {
    "README.md": readme,
    "docs/accuracy.md": accuracy,
    "docs/calibration.md": calibration,
    "docs/hooks.md": hooks,
    "docs/validation.md": validation,
    "docs/network.md": network,
    "docs/planner.md": planner,
    "docs/serving-requests.md": serving_requests,
    "docs/serving.md": serving,
}
