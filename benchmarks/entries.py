"""What the gallery shows and the documentation quotes: commands, figures read off them, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Step = str | int | tuple[str, object]
"""A key, an index, or (key, value): the first item of a list whose key has that value."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a figure stands in what a command prints with `--json`, and its factor."""

    path: tuple[Step, ...]
    scale: float = 1.0

    def read(self, answer: Any) -> float:
        """The figure in an answer; LookupError if it is not there."""
        for step in self.path:
            if isinstance(step, tuple):
                key, value = step
                answer = next((row for row in answer if row[key] == value), None)
                if answer is None:
                    raise LookupError(f"no {key} {value}")
            else:
                answer = answer[step]
        return float(answer) * self.scale


def at(*path: Step, scale: float = 1.0) -> At:
    """A figure by its keys."""
    return At(path, scale)


@dataclass(frozen=True)
class Entry:
    """A command whose figures are committed.

    `figures` are listed in the gallery, `quoted` kept besides for the documentation. `charts` are
    files the command writes into `--out`; an entry without is listed at the gallery's end.
    `shorter` are words that make the command one that CI has time for; its figures are kept too.
    """

    name: str
    title: str
    about: str
    command: tuple[str, ...]
    figures: Mapping[str, At]
    charts: tuple[str, ...] = ()
    quoted: Mapping[str, At] = field(default_factory=dict)
    allowed_exits: tuple[int, ...] = (0,)
    shorter: tuple[str, ...] = ()


_STEP = {
    "step (s)": at("step_time_s"),
    "GPU-hours per trillion tokens": at("gpu_hours_per_ttoken"),
    "days per trillion tokens": at("days_per_ttoken"),
    "MFU": at("mfu"),
    "MFU, causal": at("mfu_causal"),
    "bubble over makespan": at("bubble_over_makespan"),
    "communication overlap": at("comm_overlap"),
    "peak memory (GiB)": at("memory", "peak_gib"),
}

_PHASES = ("attn(F)", "mlp(B)", "mlp(W)", "mlp(F)", "attn(B)", "attn(W)")

_SCORES = ("n", "mape", "bias", "kendall")
_FAMILIES = (
    *("korthikanti", "mcore", "megascale", "megatron-bridge", "megatron-sc21", "megatron-sc21-t2"),
    *("mosaic-a100", "mosaic-h100", "nemo", "simumax", "torchtitan", "vtrain", "zero-bubble"),
    *("zero-bubble-rates", "zero-bubble-v", "zero-bubble-v-rates"),
)
_PEAKS = ("simumax", "torchtitan", "zero-bubble", "zero-bubble-v")
_CHECKS = (
    "bubble rate: largest difference",
    "stated layout and precision: MAPE",
    "H100, H800 and B200, known schedule: MAPE",
    "vTrain: MAPE",
    "SimuMax: MAPE",
    "SimuMax: MAPE of peak memory",
    "Kendall's tau of the median family, at least",
    "peak memory: MAPE",
)

_DEEPEP = {
    f"{direction} over {network} (GB/s)": at("rows", ("direction", direction), key)
    for direction in ("dispatch", "combine")
    for network, key in (("NVLink", "nvlink_gbps"), ("IB", "ib_gbps_logical"))
}

_FEWER_PLANS = tuple(
    word
    for values in ("tp=[1, 2]", "pp=[8, 16]", "ep=[32, 64]", "mbs=[1]", "zero=[1]")
    for word in ("--set", f"plan.{values}")
)


def _scores() -> dict[str, At]:
    """The tables of published runs: scores by family and half, peaks, and what must hold."""
    found = {name: at("checks", ("name", name), "found") for name in _CHECKS}
    for half in ("test", "fit"):
        found |= {f"{half}: all: {key}": at(f"{half}_half", key) for key in _SCORES}
        for family in _FAMILIES:
            place = (f"{half}_half", "families", family)
            found |= {f"{half}: {family}: {key}": at(*place, key) for key in _SCORES}
    for family in _PEAKS:
        for key in ("memory_n", "memory_mape", "memory_bias"):
            found[f"test: {family}: {key}"] = at("test_half", "families", family, key)
    return found


def _points(key: str, values: tuple[int, ...], other: str, choice: str) -> dict[str, At]:
    """Step times of a sweep's points at one value of its second axis."""
    found = {}
    for value in values:
        point = {key: value, other: choice}
        found[f"{value}: step (s)"] = at("points", ("point", point), "step_time_s")
    return found


GALLERY = (
    Entry(
        "v3-step",
        "DeepSeek-V3's training step on 2,048 H800s",
        "Folded: one GPU stands for its peers. Published: 180 K GPU-hours, 3.7 days a trillion "
        "tokens.",
        ("run", "dsv3-train-h800"),
        _STEP,
        ("pipeline.png", "time_by_rank.png", "block.png", "memory.png"),
        {
            f"effect: {name} (s)": at("contributions", ("name", name), "seconds")
            for name in ("routing imbalance", "kernel jitter")
        },
    ),
    Entry(
        "measured-pair",
        "An overlapped pair of chunks beside the published profile",
        "Top: rank 0 of 64 as profiled by DeepSeek; bottom: simulated with kernels fitted on it.",
        ("trace", "diff", "h800_train_trace", "dsv3-fb-pair-h800"),
        {
            "measured, first kernel to last (ms)": at("a", "makespan_ns", scale=1e-6),
            "simulated (ms)": at("b", "makespan_ns", scale=1e-6),
            **{
                f"{phase}, {said} (ms)": at("phases", ("phase", phase), key, scale=1e-6)
                for phase in _PHASES
                for said, key in (("measured", "mean_ns_a"), ("simulated", "mean_ns_b"))
            },
        },
        ("timelines.png", "phases.png"),
    ),
    Entry(
        "schedules",
        "Schedules compared on the same step",
        "The same model, cluster and batch under four schedules.",
        ("compare", "dsv3-train-h800", "--schedules", "1f1b,zb1p,dualpipe,dualpipev"),
        {
            f"{name}: step (s)": at("schedules", ("schedule", name), "step_time_s")
            for name in ("1f1b", "zb1p", "dualpipe", "dualpipev")
        },
        ("pipelines.png", "bubble_vs_microbatches.png"),
    ),
    Entry(
        "comm-sms",
        "How many SMs should communicate?",
        "SMs taken from compute for dispatch and combine, against step time. At 0 transfers move "
        "without SMs, as a NIC that does it all would. The table has the static split.",
        ("sweep", "sweep-comm-sms"),
        _points("train.comm_sms", (0, 4, 8, 12, 16, 20, 24, 40), "train.sm_split", "static"),
        ("lines.png",),
    ),
    Entry(
        "node-limit",
        "How many nodes may a token go to?",
        "The gate's node limit against step time, at two speeds of InfiniBand a GPU. The table "
        "has the H800's 50 GB/s.",
        ("sweep", "sweep-node-limit"),
        _points("model.topk_group", tuple(range(1, 9)), "topology.nic.bandwidth", "50 GB/s"),
        ("lines.png",),
    ),
    Entry(
        "straggler",
        "One slow GPU among 256, every one simulated",
        "GPU 37 runs at 80% of its clock: who waits, and what it costs.",
        ("run", "dsv3-straggler-256"),
        {
            "step (s)": at("step_time_s"),
            "what the fault adds (s)": at("faults", "added_s"),
        },
        ("stragglers.png",),
    ),
    Entry(
        "alltoall",
        "An EP64 dispatch and combine on the fabric",
        "4,096 tokens a GPU, node-limited routing, each flow on its links.",
        ("alltoall", "--ep", "64", "--tokens", "4096", "--topology", "h800-2048"),
        {
            "dispatch (us)": at("rows", 0, "time_us"),
            "combine (us)": at("rows", 1, "time_us"),
            "nodes a token goes to": at("routing", "nodes_per_token"),
        },
        ("traffic_dispatch.png", "ports_dispatch.png", "time_vs_sms.png"),
    ),
    Entry(
        "serving-day",
        "A day of DeepSeek-V3's serving on H800s",
        "Published: 226.75 nodes on average, 73.7K input and 14.8K output tokens a second and "
        "node. Every hour is sampled.",
        ("run", "dsv3-serve-h800"),
        {
            "nodes, mean": at("nodes", "all"),
            "of prefill": at("nodes", "prefill"),
            "of decode": at("nodes", "decode"),
            "input tokens/s a prefill node": at("input_tokens_per_s_per_node"),
            "output tokens/s a decode node": at("output_tokens_per_s_per_node"),
            "TTFT, p50 (ms)": at("ttft_ms", "p50"),
            "TPOT, p50 (ms)": at("tpot_ms", "p50"),
            "requests within the SLO": at("slo_attainment"),
            "dollars a day": at("usd_per_day"),
            "dollars a million input tokens": at("usd_per_mtok_input"),
            "dollars a million output tokens": at("usd_per_mtok_output"),
        },
        ("latency.png", "queues.png", "batches.png", "utilisation.png", "cost.png"),
        allowed_exits=(0, 3),
        shorter=(
            *("--set", "window.day=false", "--set", "window.duration=10 s"),
            *("--set", "window.warmup=5 s"),
        ),
    ),
    Entry(
        "plan-512",
        "A plan for 512 rented H100s",
        "Which layout and schedule trains Llama 3.1 70B fastest, out of all that are legal.",
        ("plan", "plan-512-h100"),
        {
            "step of the best plan (s)": at("plans", 0, "step_time_s"),
            "its MFU": at("plans", 0, "mfu"),
            "its memory (GiB)": at("plans", 0, "memory_peak_gib"),
            "days per trillion tokens": at("plans", 0, "days_per_ttoken"),
            "dollars per trillion tokens": at("plans", 0, "usd_per_ttoken"),
            "step of the second plan (s)": at("plans", 1, "step_time_s"),
            "step of the scenario's own layout (s)": at("own", "step_time_s"),
            "legal candidates": at("space", "candidates"),
            "an unsimulated one may be better by": at("gap"),
        },
        ("plan.png", "parts.png"),
    ),
    Entry(
        "fidelity",
        "Published runs, predicted",
        "How far off predictions of published runs are; all are shown, misses too. Exit code 4 "
        "says that an error is beyond its tolerance.",
        ("validate", "published"),
        {
            "mean absolute error": at("mape"),
            "bias": at("bias"),
            "mean absolute error, half it was fitted on": at("fit_half", "mape"),
            "mean absolute error, half held out": at("test_half", "mape"),
        },
        ("published.png",),
        _scores(),
        allowed_exits=(0, 4),
    ),
    Entry(
        "v3-unfolded",
        "The same step of DeepSeek-V3, every GPU simulated",
        "Peers drift as far as the overlap lets them.",
        ("run", "dsv3-train-h800", "--set", "simulate.fold=false"),
        _STEP,
    ),
    Entry(
        "plan-v3",
        "A plan for DeepSeek-V3 on its own cluster",
        "What the planner would have chosen with DeepSeek's 20 SMs for the all-to-all.",
        ("plan", "plan-dsv3-2048-h800"),
        {
            "step of the best plan (s)": at("plans", 0, "step_time_s"),
            "step of the second plan (s)": at("plans", 1, "step_time_s"),
            "step of the best that does not fit (s)": at("near", 0, "step_time_s"),
            "its memory (GiB)": at("near", 0, "memory_peak_gib"),
            "legal candidates": at("space", "candidates"),
        },
        shorter=_FEWER_PLANS,
    ),
    Entry(
        "plan-v3-free",
        "The same, were tensor parallel copies free of SMs",
        "",
        ("plan", "plan-dsv3-2048-h800", "--set", "train.collective_sms=0"),
        {"step of the best plan (s)": at("plans", 0, "step_time_s")},
        shorter=_FEWER_PLANS,
    ),
    Entry(
        "prefill-ep32",
        "An iteration of prefill, EP32 on H800s",
        "16,384 prompt tokens a GPU, prompts of 4,096.",
        ("run", "dsv3-prefill-ep32"),
        {"tokens/s a GPU": at("tokens_per_s_per_gpu")},
    ),
    Entry(
        "decode-ep144",
        "An iteration of decode, EP144 on H800s",
        "As many sequences as leave a user 21 tokens a second.",
        ("run", "dsv3-decode-ep144", "--set", "iteration.decode_rows=101"),
        {
            "tokens/s a node": at("tokens_per_s_per_node"),
            "tokens/s a user": at("tokens_per_s_per_user"),
        },
    ),
    Entry(
        "decode-ep72",
        "An iteration of decode, EP72 on H100s",
        "256 sequences a GPU, 2,000 tokens of context.",
        ("run", "dsv3-decode-h100-12nodes"),
        {"tokens/s a node": at("units", "decode", "tokens_per_s_per_node")},
    ),
    *(
        Entry(
            f"deepep-ep{ep}",
            f"DeepEP's table, EP{ep}",
            "",
            ("alltoall", "--max-nodes", "4", "--ep", str(ep)),
            _DEEPEP,
        )
        for ep in (8, 16, 32, 64)
    ),
)
