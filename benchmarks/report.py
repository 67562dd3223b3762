"""Writes what was measured: JSON for machines, Markdown and a chart for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, exponent

BUSY = 0.5
"""Load average before the first measurement from which on others were at work."""


def write(found: dict[str, Any], judged: list[Claim], folder: Path) -> str:
    """Write benchmarks.json, .md and .png into `folder`; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**found, "claims": [claim.as_dict() for claim in judged]}
    text = json.dumps(document, indent=1) + "\n"
    (folder / "benchmarks.json").write_text(text, encoding="utf-8")
    markdown = "\n".join(lines(found, judged)) + "\n"
    (folder / "benchmarks.md").write_text(markdown, encoding="utf-8")
    chart(found, folder / "benchmarks.png")
    return markdown


def lines(found: dict[str, Any], judged: list[Claim]) -> Iterator[str]:
    """The report as Markdown."""
    machine, compiling = found["machine"], found["compiling"]
    yield "# Benchmarks"
    yield ""
    yield (
        f"`python -m benchmarks` on {machine['cores']} cores of {machine['processor']}; Python "
        f"{machine['python']}, NumPy {machine['numpy']}, numba {machine['numba']}. Compiling the "
        f"engine takes {compiling['compile_s']:.1f} s once, loading it then "
        f"{compiling['load_s']:.2f} s; neither is in any figure below."
    )
    if machine["load_before"] > BUSY:
        yield ""
        yield (
            f"**The machine was busy** (load {machine['load_before']:.1f} before the first "
            "measurement): times are longer and ratios to bounds smaller than on an idle one."
        )
    yield from _table(
        "Claims",
        ("", "found", "must be", "margin", ""),
        [
            (
                claim.what,
                _number(claim.found, claim.unit),
                ("≥ " if claim.at_least else "≤ ") + _number(claim.bound, claim.unit),
                f"{claim.ratio:.2g}x",
                "holds" if claim.holds else "**does not hold**",
            )
            for claim in judged
        ],
    )
    yield from _table(
        "Both engines on the same programs",
        ("step", "tasks", "compiled", "reference", "ratio", "same timeline"),
        [
            (
                row["step"]["name"],
                f"{row['tasks']:,}",
                _number(row["compiled_tasks_per_s"], "/s"),
                _number(row["reference_tasks_per_s"], "/s"),
                f"{row['ratio']:.0f}x",
                "yes" if row["same_timeline"] else "**no**",
            )
            for row in found["engines"]
        ],
    )
    yield from _table(
        "Whole simulations, analysis included",
        ("step", "tasks", "simulate", "of it engine", "CPU", "peak memory", "bytes a task"),
        [
            (
                row["step"]["name"],
                f"{row['tasks']:,}",
                f"{row['simulate_s']:.1f} s",
                f"{row['engine_s']:.1f} s",
                f"{row['simulate_cpu_s']:.1f} s",
                f"{row['peak_gib']:.2f} GiB",
                f"{row['peak_gib'] * 2**30 / row['tasks']:.0f}",
            )
            for row in found["whole"]
        ],
    )
    yield from _table(
        "The engine alone, every GPU",
        ("step", "tasks", "engine", "tasks a second"),
        [
            (
                row["step"]["name"],
                f"{row['tasks']:,}",
                f"{row['compiled_s']:.2f} s",
                _number(row["compiled_tasks_per_s"], "/s"),
            )
            for row in found["unfolded"]
        ],
    )
    for name, title in (
        ("by_microbatches", "Folded, by micro-batches"),
        ("by_gpus", "Every GPU, by GPUs"),
    ):
        rows = found[name]
        least = rows[0]["compiled_cpu_s"] / rows[0]["tasks"]
        yield from _table(
            f"{title}: CPU time grows as tasks to the power {exponent(rows):.2f}",
            ("step", "tasks", "engine", "CPU", "tasks a second", "CPU a task over the first row's"),
            [
                (
                    row["step"]["name"],
                    f"{row['tasks']:,}",
                    f"{row['compiled_s']:.3f} s",
                    f"{row['compiled_cpu_s']:.3f} s",
                    _number(row["compiled_tasks_per_s"], "/s"),
                    f"{row['compiled_cpu_s'] / row['tasks'] / least:.2f}x",
                )
                for row in rows
            ],
        )
    yield ""
    yield "![time over tasks](benchmarks.png)"


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _number(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value / 1e6:.2f} M/s" if value >= 1e5 else f"{value / 1e3:.1f} k/s"
    return f"{value:.3g}{unit}" if unit == "x" else f"{value:.3g} {unit}".strip()


def chart(found: dict[str, Any], path: Path) -> None:
    """Time over tasks of both engines, with a line of constant time a task."""
    from simdeep.report.charts import new_figure, save
    from simdeep.report.style import FAINT, LINES, styled

    @styled
    def draw() -> None:
        figure = new_figure(7.5, 5.0)
        ax = figure.subplots()
        series = [
            ("reference", found["engines"], "reference_cpu_s"),
            ("compiled, folded, by micro-batches", found["by_microbatches"], "compiled_cpu_s"),
            ("compiled, every GPU, by GPUs", found["by_gpus"], "compiled_cpu_s"),
        ]
        for (label, rows, key), (colour, marker) in zip(series, LINES, strict=False):
            points = sorted((row["tasks"], row[key]) for row in rows)
            x, y = zip(*points, strict=True)
            ax.plot(x, y, color=colour, marker=marker, label=label)
            line = [y[-1] * tasks / x[-1] for tasks in (1e4, 1e7)]
            ax.plot((1e4, 1e7), line, color=FAINT, linewidth=1.0, zorder=0)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.grid(True, which="major")
        ax.set_xlabel("tasks")
        ax.set_ylabel("CPU seconds")
        ax.set_title("Engine time over tasks (grey: linear)")
        ax.legend()
        save(figure, path)

    draw()
