"""Charts of a serving run: latencies, queues, batches and KV over time, utilisation, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simdeep.report.charts.canvas import axes_or_new, legend_beside
from simdeep.report.serving_summary import clock
from simdeep.report.style import ALARM, LINES, styled
from simdeep.report.summary import seconds
from simdeep.serving.metrics import latencies, measured_span
from simdeep.serving.results import Run, ServeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))


@styled
def latency_cdf(result: ServeResult, ax: Axes | None = None) -> Axes:
    """Share of requests whose TTFT, TPOT and end-to-end time is at most x, with the SLO."""
    ax = axes_or_new(ax, 9.0, 4.6)
    runs = [run for run in result.runs if run.outcome is not None]
    found = [latencies(run.outcome, *measured_span(run)) for run in runs if run.outcome]
    weight = [
        np.full(len(f.ttft), r.window.stands_for_s or 1.0) for f, r in zip(found, runs, strict=True)
    ]
    names = (("ttft", "time to first token"), ("tpot", "time an output token"))
    handles = []
    for i, (name, label) in enumerate((*names, ("e2e", "end to end"))):
        values = np.concatenate([getattr(f, name) for f in found])
        weights = np.concatenate(weight)
        sound = np.isfinite(values)
        order = np.argsort(values[sound])
        x, share = values[sound][order], np.cumsum(weights[sound][order])
        if len(x):
            thin = np.unique(np.linspace(0, len(x) - 1, 2000).astype(int))
            (line,) = ax.plot(
                1e3 * x[thin], share[thin] / share[-1], color=LINES[i][0],
                linestyle=_DASHES[i], linewidth=1.8, label=label,
            )  # fmt: skip
            handles.append(line)
    slo = result.scenario.slo
    for limit, name, dash in ((slo.ttft, "TTFT", (0, (2, 2))), (slo.tpot, "TPOT", (0, (6, 2)))):
        if limit is not None:
            text = f"SLO of {name}: {seconds(limit)}"
            line = ax.axvline(1e3 * limit, color=ALARM, linewidth=1.1, linestyle=dash, label=text)
            handles.append(line)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.01)
    ax.grid(axis="both")
    ax.set_title("Latencies")
    ax.set_xlabel("milliseconds (log scale)")
    ax.set_ylabel("share of requests at or below")
    legend_beside(ax, handles)
    return ax


def busiest(result: ServeResult) -> Run:
    """The window with the most arrivals a second."""
    runs = [run for run in result.runs if run.outcome is not None]
    return max(runs, key=lambda run: run.window.rate)


@styled
def queues_over_time(result: ServeResult, ax: Axes | None = None) -> Axes:
    """Requests that wait, by what for, through the busiest window."""
    states = (
        (("backlog", "waiting"), "prompts waiting"),
        (("loading",), "cached prefix being read"),
        (("held", "swapped"), "waiting to decode"),
        (("moving", "fetched"), "KV being moved"),
    )
    return _series(result, states, "Queues", "requests", ax)


@styled
def batches_over_time(result: ServeResult, ax: Axes | None = None) -> Axes:
    """Requests being processed, through the busiest window."""
    states = ((("prefilling",), "prompts in prefill"), (("row",), "sequences decoding"))
    return _series(result, states, "Batches", "requests", ax)


@styled
def kv_over_time(result: ServeResult, ax: Axes | None = None) -> Axes:
    """Share of the KV cache in use, by kind of unit, through the busiest window."""
    run = busiest(result)
    assert run.outcome is not None
    lines = []
    for i, (role, kind) in enumerate(result.kinds.kinds.items()):
        room = np.maximum(run.outcome.sample("powered", i) * kind.ranks * kind.kv_tokens, 1)
        lines.append((100 * run.outcome.sample("kv_tokens", i) / room, f"{role} units"))
    return _lines(run, lines, "KV cache", "in use (%)", ax)


def _series(result: ServeResult, states: Any, title: str, unit: str, ax: Axes | None) -> Axes:
    run = busiest(result)
    assert run.outcome is not None
    lines = [(sum(run.outcome.sample(n) for n in names), label) for names, label in states]
    return _lines(run, lines, title, unit, ax)


def _lines(run: Run, lines: Any, title: str, unit: str, ax: Axes | None) -> Axes:
    ax = axes_or_new(ax, 9.0, 4.6)
    assert run.outcome is not None
    at = run.outcome.sample("at_ns") / 1e9
    handles = []
    for i, (values, label) in enumerate(lines):
        (line,) = ax.plot(
            at, values, color=LINES[i][0], linestyle=_DASHES[i], linewidth=1.6, label=label
        )
        handles.append(line)
    start, stop = measured_span(run)
    ax.axvspan(start / 1e9, stop / 1e9, color="#F2F2F2", zorder=0)
    ax.set_xlim(0, max(float(at[-1]), 1e-9))
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    hour = "" if run.window.hour is None else f", from {clock(run.window.hour)} on"
    ax.set_title(f"{title} over time{hour} (grey: measured)")
    ax.set_xlabel("seconds")
    ax.set_ylabel(unit)
    legend_beside(ax, handles)
    return ax


@styled
def utilisation_bars(result: ServeResult, ax: Axes | None = None) -> Axes:
    """How busy each component is, and how full the KV cache."""
    found = result.figures
    rows = dict(found.utilisation)
    rows |= {f"{role} KV cache": share for role, share in found.kv_occupancy.items()}
    ax = axes_or_new(ax, 8.0, 1.2 + 0.34 * len(rows))
    names, values = list(rows)[::-1], 100 * np.array(list(rows.values()))[::-1]
    ax.barh(names, values, color=LINES[0][0], height=0.62)
    for i, value in enumerate(values):
        ax.annotate(f"{value:.1f}%", (min(value, 100) + 1, i), va="center", fontsize=8)
    ax.set_xlim(0, 112)
    ax.grid(axis="x")
    ax.set_title("Utilisation")
    ax.set_xlabel("share of the time, or of the room (%)")
    return ax


@styled
def cost_bars(result: ServeResult, ax: Axes | None = None) -> Axes:
    """Dollars for a million input and output tokens, with the sampling error."""
    ax = axes_or_new(ax, 5.6, 3.8)
    sides = ("input", "output")
    values = [getattr(result.figures, f"usd_per_mtok_{side}") for side in sides]
    errors = [result.errors.get(f"usd_per_mtok_{side}", 0.0) for side in sides]
    looks = (("#56B4E9", ""), ("#E69F00", "///"))
    for i, (value, error, (colour, hatch)) in enumerate(zip(values, errors, looks, strict=True)):
        ax.bar(i, value, yerr=error or None, color=colour, hatch=hatch, edgecolor="white",
               width=0.55, capsize=4)  # fmt: skip
        ax.annotate(f"${value:.3g}", (i, value + error), ha="center", va="bottom", fontsize=9,
                    xytext=(0, 2), textcoords="offset points")  # fmt: skip
    ax.set_xticks(range(2), [f"{side} tokens" for side in sides])
    ax.set_ylim(0, 1.18 * max(v + e for v, e in zip(values, errors, strict=True)))
    ax.grid(axis="y")
    ax.set_title("Cost of a million tokens")
    ax.set_ylabel("US dollars")
    return ax
