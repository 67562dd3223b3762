"""Writes the files of `--out` of a serving run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from simdeep.report.output import OutputFolder, scenario_text
from simdeep.report.result_json import to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simdeep.serving.results import ServeResult

SERVE_FILES = (
    "latency.png",
    "queues.png",
    "batches.png",
    "kv.png",
    "utilisation.png",
    "cost.png",
    "requests.parquet",
    "requests.csv",
    "scenario.yaml",
    "result.json",
)
"""Every file a serving run may write into its folder."""


def requests_frame(result: ServeResult) -> pd.DataFrame:
    """One row a request: window, what it asked for, when it got what (ns; -1: not yet).

    Requests that were rows already when a window began are left out.
    """
    frames = []
    for number, run in enumerate(result.runs):
        if run.outcome is not None:
            frame = run.outcome.frame()[run.outcome.requests.delivered == 0]
            frame.insert(0, "window", number)
            frames.append(frame)
    whole: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return whole


def write_serving(
    folder: OutputFolder,
    result: ServeResult,
    document: dict[str, Any],
    stage: Callable[[str], None] = lambda text: None,
) -> None:
    """Write charts, request records, resolved scenario and JSON.

    Args:
        folder: open, with `SERVE_FILES`.
        result: what was simulated.
        document: `serving_json` of it.
        stage: told what is being written.
    """
    from importlib.util import find_spec

    from simdeep.report.charts import save, serving

    charts: dict[str, Callable[[ServeResult], Axes]] = {
        "latency.png": serving.latency_cdf,
        "queues.png": serving.queues_over_time,
        "batches.png": serving.batches_over_time,
        "kv.png": serving.kv_over_time,
        "utilisation.png": serving.utilisation_bars,
        "cost.png": serving.cost_bars,
    }
    for name, draw in charts.items():
        stage(f"drawing {name.removesuffix('.png')}")
        folder.write(name, partial(save, draw(result)))
    stage("writing the requests")
    frame = requests_frame(result)
    if find_spec("pyarrow") is not None:
        folder.write("requests.parquet", lambda path: frame.to_parquet(path, index=False))
    else:
        folder.write("requests.csv", lambda path: frame.to_csv(path, index=False))
    scenario = result.scenario
    folder.write_text("scenario.yaml", scenario_text(scenario.name, _plain(result)))
    folder.write_text("result.json", to_json(document))


def _plain(result: ServeResult) -> dict[str, Any]:
    plain = result.scenario.resolved()
    if result.scenario.trace_file is not None:
        plain["traffic"]["file"] = str(result.scenario.trace_file.resolve())
    return plain
