"""The page `reports/fidelity.html`, made of what `simdeep validate published --out DIR` wrote.

`python -m simdeep.published.report DIR FOLDER` writes `fidelity.html` and `fidelity.png` there.
"""

from __future__ import annotations

import html
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

WORST: Final = 25
"""Runs in the list of the worst."""

_STYLE: Final = (
    "body{font:15px/1.45 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;text-align:right;"
    "border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}img{max-width:100%}"
)
_PAIR_MS, _HOURS = 128.5, 180e3
"""Published: the pair in deepseek-ai/profile-data; GPU-hours in arXiv 2412.19437 section 1."""


def deepseek() -> Iterable[Sequence[str]]:
    """DeepSeek-V3's published figures, simulated: figure, simulated, published, off."""
    from simdeep.api import simulate
    from simdeep.report.summary import step_figures
    from simdeep.spec.scenario import load_training

    pair = 1e3 * simulate(load_training("dsv3-fb-pair-h800")).step_time_s
    off = f"{pair / _PAIR_MS - 1:+.1%}"
    yield "overlapped pair of four MoE layers", f"{pair:.1f} ms", f"{_PAIR_MS} ms", off
    for name, fold in (
        ("GPU-hours per trillion tokens, folded", "true"),
        ("the same, every GPU simulated", "false"),
    ):
        step = simulate(load_training("dsv3-train-h800", {"simulate.fold": fold}))
        hours = step_figures(step).trillion.gpu_hours
        yield name, f"{hours / 1e3:.1f} K", "180 K", f"{hours / _HOURS - 1:+.1%}"


def page(result: Mapping[str, Any], deepseek: Iterable[Sequence[str]]) -> str:
    """The page of a validation's JSON, with the rows of `deepseek`."""
    parts = [
        "<!doctype html><meta charset='utf-8'><title>simdeep: how far off</title>",
        f"<style>{_STYLE}</style><h1>How far off</h1>",
        "<h2>DeepSeek-V3 on 2,048 H800s</h2>",
        _table(("figure", "simulated", "published", "off"), deepseek),
        "<p>How each is calibrated and predicted: docs/accuracy.md.</p><h2>Published runs</h2>",
        "<img src='fidelity.png' alt='predicted over measured iteration time by family'>",
        _table(("must hold on the test half", "limit", "found", ""), _checks(result["checks"])),
    ]
    for key, title in (("test_half", "Test half"), ("fit_half", "Fit half")):
        parts.append(f"<h2>{title}</h2>{_table(_HEADS, _families(result[key]))}")
    parts.append(f"<h2>The {WORST} worst of the test half</h2>")
    parts.append(_table(("run", "measured", "predicted", "error"), _worst(result["cases"])))
    reasons = [(case["id"], case["reason"]) for case in result["cases"] if case["reason"]]
    parts.append(f"<h2>Runs without an error</h2>{_table(('run', 'reason'), reasons)}")
    return "\n".join(parts) + "\n"


_HEADS: Final = ("family", "runs", "MAPE", "bias", "Kendall", "peaks", "peak MAPE", "peak bias")


def _families(half: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, found in {**half["families"], "all iteration times": half}.items():
        form = "{:.4f}" if name.endswith("rates") else "{:.1%}"
        yield (
            name,
            str(found["n"]),
            _shown(found["mape"], form),
            _shown(found["bias"], form),
            _shown(found["kendall"], "{:.2f}"),
            str(found["memory_n"] or ""),
            _shown(found["memory_mape"], "{:.1%}"),
            _shown(found["memory_bias"], "{:.1%}"),
        )


def _checks(checks: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for check in checks:
        found = _shown(check["found"], "{:.4f}")
        yield check["name"], f"{check['limit']:g}", found, "holds" if check["holds"] else "missed"


def _worst(cases: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    inside = [
        case
        for case in cases
        if case["half"] == "test"
        and case["error"] is not None
        and case["quantity"] == "iteration_s"
    ]
    for case in sorted(inside, key=lambda case: -abs(case["error"]))[:WORST]:
        yield (
            case["id"],
            f"{case['measured']:.4g} s",
            f"{case['predicted']:.4g} s",
            f"{case['error']:+.1%}",
        )


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f"<table>{line(heads, 'th')}\n{body}</table>"


def write(source: Path, folder: Path) -> None:
    """Write the page and its picture from the files of `--out`."""
    result = json.loads((source / "published.json").read_text("utf-8"))
    (folder / "fidelity.html").write_text(page(result, deepseek()), "utf-8")
    shutil.copyfile(source / "published.png", folder / "fidelity.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
