"""The files of `--out`: figures of every run, the chart, and every run's scenario."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, Final

from simdeep.published.build import CannotExpressError, build
from simdeep.published.run import Validation, to_dict
from simdeep.report.result_json import to_json

if TYPE_CHECKING:
    from simdeep.report.output import OutputFolder

NAMES: Final = ("published.json", "published.csv", "scenarios.json", "published.png")
"""Every file that is written."""

_COLUMNS: Final = (
    *("id", "family", "half", "quantity", "measured", "predicted", "error", "reason"),
    *("measured_peak_bytes", "predicted_peak_bytes", "memory_error", "fits"),
)


def write_files(result: Validation, folder: OutputFolder) -> None:
    """Write all of them into an open output folder."""
    from simdeep.published.chart import scatter
    from simdeep.report.charts.canvas import save

    plain = to_dict(result)
    folder.write_text("published.json", to_json(plain))
    folder.write_text("published.csv", _csv(plain["cases"]))
    folder.write_text("scenarios.json", json.dumps(_scenarios(result), indent=1))
    folder.write("published.png", lambda path: save(scatter(result.runs), path))


def _csv(cases: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cases)
    return text.getvalue()


def _scenarios(result: Validation) -> dict[str, Any]:
    """Model, topology and scenario of every run that has one."""
    found = {}
    for run in result.runs:
        try:
            made = build(run.case)
        except CannotExpressError:
            continue
        scenario = made.scenario
        scenario["train"]["recompute"] = list(run.prediction.recompute)
        found[run.case.id] = {
            "model": made.model,
            "topology": made.topology,
            "scenario": scenario,
        }
    return found
