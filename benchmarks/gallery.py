"""The gallery in `reports/`: shipped scenarios, each with its command, its figures and its chart.

    python -m benchmarks.gallery [NAME]...       makes reports/gallery.md, .json and the pictures
    python -m benchmarks.gallery --check [NAME]  runs the commands again and compares the figures

Figures are read from what the commands print with `--json`; `--check` compares them to a part in a
million and says which drifted (exit 1). CI checks the entries that take seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parents[1] / "reports"
PICTURES = REPORTS / "gallery"


@dataclass(frozen=True)
class Entry:
    """One page of the gallery.

    `figures` names what is quoted: label to a path of keys and indices in the command's JSON.
    `charts` are files the command writes into `--out`. `quick` entries are checked in CI.
    """

    name: str
    title: str
    about: str
    command: tuple[str, ...]
    figures: dict[str, tuple[str | int, ...]]
    charts: tuple[str, ...]
    quick: bool = True
    allowed_exits: tuple[int, ...] = field(default=(0,))


GALLERY = (
    Entry(
        "v3-step",
        "DeepSeek-V3's training step on 2,048 H800s",
        "Folded: one GPU stands for its peers. Published: 180 K GPU-hours, 3.7 days a trillion "
        "tokens.",
        ("run", "dsv3-train-h800"),
        {
            "step (s)": ("step_time_s",),
            "GPU-hours per trillion tokens": ("gpu_hours_per_ttoken",),
            "days per trillion tokens": ("days_per_ttoken",),
            "MFU": ("mfu",),
            "bubble over makespan": ("bubble_over_makespan",),
            "communication overlap": ("comm_overlap",),
            "peak memory (GiB)": ("memory", "peak_gib"),
        },
        ("pipeline.png", "time_by_rank.png", "block.png", "memory.png"),
    ),
    Entry(
        "measured-pair",
        "An overlapped pair of chunks beside the published profile",
        "Top: rank 0 of 64 as profiled by DeepSeek; bottom: simulated with kernels fitted on it.",
        ("trace", "diff", "h800_train_trace", "dsv3-fb-pair-h800"),
        {
            "measured (ns)": ("a", "makespan_ns"),
            "simulated (ns)": ("b", "makespan_ns"),
            "largest phase, measured (ns)": ("phases", 4, "mean_ns_a"),
            "largest phase, simulated (ns)": ("phases", 4, "mean_ns_b"),
        },
        ("timelines.png", "phases.png"),
    ),
    Entry(
        "schedules",
        "Schedules compared on the same step",
        "The same model, cluster and batch under four schedules.",
        ("compare", "dsv3-train-h800", "--schedules", "1f1b,zb1p,dualpipe,dualpipev"),
        {
            f"{name}: step (s)": ("schedules", i, "step_time_s")
            for i, name in enumerate(("1f1b", "zb1p", "dualpipe", "dualpipev"))
        },
        ("pipelines.png", "bubble_vs_microbatches.png"),
    ),
    Entry(
        "comm-sms",
        "How many SMs should communicate?",
        "SMs taken from compute for dispatch and combine, against step time. At 0 transfers move "
        "without SMs, as a NIC that does it all would.",
        ("sweep", "sweep-comm-sms"),
        {},
        ("lines.png",),
        quick=False,
    ),
    Entry(
        "node-limit",
        "How many nodes may a token go to?",
        "The gate's node limit against step time.",
        ("sweep", "sweep-node-limit"),
        {},
        ("lines.png",),
        quick=False,
    ),
    Entry(
        "straggler",
        "One slow GPU among 256, every one simulated",
        "GPU 37 runs at 80% of its clock: who waits, and what it costs.",
        ("run", "dsv3-straggler-256"),
        {
            "step (s)": ("step_time_s",),
            "what the fault adds (s)": ("faults", "added_s"),
        },
        ("stragglers.png",),
    ),
    Entry(
        "alltoall",
        "An EP64 dispatch and combine on the fabric",
        "4,096 tokens a GPU, node-limited routing, each flow on its links.",
        ("alltoall", "--ep", "64", "--tokens", "4096", "--topology", "h800-2048"),
        {
            "dispatch (us)": ("rows", 0, "time_us"),
            "combine (us)": ("rows", 1, "time_us"),
            "nodes a token goes to": ("routing", "nodes_per_token"),
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
            "nodes, mean": ("nodes", "all"),
            "input tokens/s a node": ("input_tokens_per_s_per_node",),
            "output tokens/s a node": ("output_tokens_per_s_per_node",),
            "TTFT, p50 (ms)": ("ttft_ms", "p50"),
            "TPOT, p50 (ms)": ("tpot_ms", "p50"),
            "requests within the SLO": ("slo_attainment",),
            "dollars a day": ("usd_per_day",),
            "dollars a million input tokens": ("usd_per_mtok_input",),
            "dollars a million output tokens": ("usd_per_mtok_output",),
        },
        ("latency.png", "queues.png", "batches.png", "utilisation.png", "cost.png"),
        quick=False,
        allowed_exits=(0, 3),
    ),
    Entry(
        "plan-512",
        "A plan for 512 rented H100s",
        "Which layout and schedule trains Llama 3.1 70B fastest, out of all that are legal.",
        ("plan", "plan-512-h100"),
        {
            "step of the best plan (s)": ("plans", 0, "step_time_s"),
            "its MFU": ("plans", 0, "mfu"),
            "its memory (GiB)": ("plans", 0, "memory_peak_gib"),
            "days per trillion tokens": ("plans", 0, "days_per_ttoken"),
            "dollars per trillion tokens": ("plans", 0, "usd_per_ttoken"),
            "step of the second plan (s)": ("plans", 1, "step_time_s"),
            "step of the scenario's own layout (s)": ("own", "step_time_s"),
            "legal candidates": ("space", "candidates"),
            "an unsimulated one may be better by": ("gap",),
        },
        ("plan.png", "parts.png"),
        quick=False,
    ),
    Entry(
        "fidelity",
        "Published runs, predicted",
        "How far off predictions of published runs are; all are shown, misses too. Exit code 4 "
        "says that an error is beyond its tolerance.",
        ("validate", "published"),
        {
            "mean absolute error": ("mape",),
            "bias": ("bias",),
            "mean absolute error, half it was fitted on": ("fit_half", "mape"),
            "mean absolute error, half held out": ("test_half", "mape"),
        },
        ("published.png",),
        quick=False,
        allowed_exits=(0, 4),
    ),
)


def run(entry: Entry, out: Path | None) -> dict[str, Any]:
    """The JSON an entry's command prints; its files go into `out`.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "simdeep.cli", *entry.command, "--json"]
    if out is not None:
        command += ["--out", str(out)]
    if entry.command[0] == "sweep":
        command += ["--store", str(Path(tempfile.mkdtemp()) / "store.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in entry.allowed_exits:
        raise RuntimeError(f"{shown(entry)}: exit {done.returncode}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def shown(entry: Entry) -> str:
    """The command as a reader types it."""
    return " ".join(("simdeep", *entry.command))


def figures(entry: Entry, answer: Any) -> dict[str, float]:
    """What an entry quotes of its command's answer."""
    found = {}
    for label, path in entry.figures.items():
        value = answer
        for key in path:
            value = value[key]
        found[label] = value
    return found


def drifts(entry: Entry, now: dict[str, float], before: dict[str, float]) -> Iterator[str]:
    """What differs between two runs of an entry by more than a part in a million."""
    for label in sorted(now.keys() | before.keys()):
        a, b = before.get(label), now.get(label)
        if a is None or b is None or abs(a - b) > 1e-6 * max(abs(a), abs(b)):
            yield f"{entry.name}: {label} was {a}, is {b} ({shown(entry)})"


def make(names: Sequence[str]) -> None:
    """Run everything, or the entries named, and write the gallery with what was there of others."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    numbers = REPORTS / "gallery.json"
    kept: dict[str, dict[str, float]] = {}
    if names and numbers.exists():
        kept = json.loads(numbers.read_text(encoding="utf-8"))
    for entry in GALLERY:
        if names and entry.name not in names:
            continue
        print(shown(entry), file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            kept[entry.name] = figures(entry, run(entry, out))
            for chart in entry.charts:
                shutil.copy(out / chart, PICTURES / f"{entry.name}-{chart}")
    numbers.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (REPORTS / "gallery.md").write_text(page(kept), encoding="utf-8")


def page(kept: dict[str, dict[str, float]]) -> str:
    """The gallery as Markdown: every entry that was run, with its command."""
    lines = [
        "# Gallery",
        "",
        "Made by `python -m benchmarks.gallery` from the shipped scenarios; CI runs quick commands",
        "again and fails when a figure drifts (`python -m benchmarks.gallery --check`).",
        "",
    ]
    for entry in GALLERY:
        if entry.name not in kept:
            continue
        lines += [f"## {entry.title}", "", entry.about, "", f"    {shown(entry)} --out out", ""]
        if kept[entry.name]:
            lines += ["| figure | value |", "|---|---|"]
            lines += [f"| {label} | {value:,.6g} |" for label, value in kept[entry.name].items()]
            lines.append("")
        for chart in entry.charts:
            lines += [f"![{entry.title}: {chart}](gallery/{entry.name}-{chart})", ""]
    return "\n".join(lines)


def check(names: Sequence[str]) -> int:
    """Run entries again (the quick ones, or those named); how many figures drifted."""
    kept = json.loads((REPORTS / "gallery.json").read_text(encoding="utf-8"))
    wanted = [e for e in GALLERY if (e.name in names if names else e.quick)]
    found = [d for e in wanted for d in drifts(e, figures(e, run(e, None)), kept[e.name])]
    print("\n".join(found) or f"{len(wanted)} entries, every figure as committed")
    return len(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        sys.exit(1 if check(sys.argv[2:]) else 0)
    make(sys.argv[1:])
