"""The answer of a sweep: one flat row a point, as JSON, CSV, parquet or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.spec.yamlio import parse_value
from simdeep.sweep.code import code_digest
from simdeep.sweep.evaluate import Row, Status
from simdeep.sweep.run import Swept

if TYPE_CHECKING:
    import pandas as pd


def sweep_json(swept: Swept, store: Path) -> dict[str, Any]:
    """Everything as one object: axes, counts, the best point, and every point in order."""
    rows = swept.rows
    counts = Counter(row["status"] for row in rows)
    best = best_point(swept)
    return {
        "name": swept.plan.name,
        "set": dict(swept.plan.sets),
        "axes": [{"key": a.key, "values": list(a.values)} for a in swept.plan.axes],
        "counts": {"points": len(rows)} | {status.value: counts[status.value] for status in Status},
        "computed": swept.computed,
        "best_by": None if best is None else main_figure(rows),
        "best": None if best is None else _flat(rows[best], swept.points[best].values),
        "points": [_flat(row, point.values) for row, point in zip(rows, swept.points, strict=True)],
        "store": str(store),
        "version": simdeep.__version__,
        "code": code_digest(),
    }


def _flat(row: Row, values: dict[str, str]) -> dict[str, Any]:
    point = {key: parse_value(text, "") for key, text in values.items()}
    return {"point": point, "status": row["status"], "reason": row["reason"], **row["figures"]}


def main_figure(rows: Sequence[Row]) -> str:
    """What points are ranked by, least first: dollars for the work, or a pair's time."""
    return "total_ms" if any("total_ms" in row["figures"] for row in rows) else "usd_per_ttoken"


def ranked(swept: Swept) -> list[int]:
    """The points that fit, by the main figure, the first among equals first."""
    rows, figure = swept.rows, main_figure(swept.rows)
    fitting = [i for i, row in enumerate(rows) if row["status"] == Status.FITS]
    return sorted(fitting, key=lambda i: float(rows[i]["figures"][figure]))


def best_point(swept: Swept) -> int | None:
    """The first of `ranked`, if any."""
    return next(iter(ranked(swept)), None)


def frame(swept: Swept) -> pd.DataFrame:
    """One line a point: the varied values as text, `status`, `reason`, and all figures."""
    import pandas as pd

    records = [
        {**point.values, "status": row["status"], "reason": row["reason"], **row["figures"]}
        for point, row in zip(swept.points, swept.rows, strict=True)
    ]
    return pd.DataFrame.from_records(records)
