"""The files of a sweep's `--out`: every point as CSV and parquet, charts, the answer as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem
from simdeep.report.output import OutputFolder
from simdeep.report.result_json import to_json
from simdeep.spec.resources import nearest
from simdeep.spec.scenario_schema import Sweep
from simdeep.sweep.evaluate import Status
from simdeep.sweep.run import Swept
from simdeep.sweep.table import frame, main_figure, sweep_json

if TYPE_CHECKING:
    import pandas as pd

FILES = ("points.csv", "points.parquet", "lines.png", "heatmap.png", "pareto.png", "sweep.json")
"""Every file a sweep may write beside its store."""


def write_sweep(folder: OutputFolder, swept: Swept, store: Path, section: Sweep) -> None:
    """Write tables and the charts that the axes allow.

    Args:
        folder: open, with `FILES`.
        swept: the answer.
        store: where its rows are kept.
        section: which key and figure charts show, if the scenario says so.
    """
    from importlib.util import find_spec

    table = frame(swept)
    folder.write("points.csv", lambda path: table.to_csv(path, index=False, lineterminator="\n"))
    if find_spec("pyarrow") is not None:
        folder.write("points.parquet", lambda path: table.to_parquet(path, index=False))
    _write_charts(folder, swept, table, section)
    folder.write_text("sweep.json", to_json(sweep_json(swept, store)))


def _write_charts(folder: OutputFolder, swept: Swept, table: pd.DataFrame, section: Sweep) -> None:
    from simdeep.report.charts import save, sweep

    fitting = table[table["status"] == Status.FITS]
    keys = [axis.key for axis in swept.plan.axes if len(axis.values) > 1]
    if fitting.empty or not keys:
        return
    is_pair = main_figure(swept.rows) == "total_ms"
    y = _figure(section.y, "total_ms" if is_pair else "step_time_s", fitting)
    x = section.x if section.x in keys else sweep.best_x(table, keys)
    others = [key for key in keys if key != x]
    name = swept.plan.name
    folder.write("lines.png", lambda path: save(sweep.lines(table, x, others, y, title=name), path))
    if others:
        lane = others[0]
        folder.write(
            "heatmap.png", lambda path: save(sweep.heat_map(table, x, lane, y, title=name), path)
        )
    if not is_pair:
        folder.write("pareto.png", lambda path: save(sweep.pareto(table, keys, title=name), path))


def _figure(asked: str | None, default: str, table: pd.DataFrame) -> str:
    if asked is None:
        return default
    if asked not in table.columns:
        near = nearest(asked, tuple(str(column) for column in table.columns))
        hint = f"did you mean {near}?" if near else f"such as {default}"
        raise InputError([Problem("", "sweep.y", f"is {asked!r}, no figure of a point; {hint}")])
    return asked
