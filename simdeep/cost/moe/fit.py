"""Fit the kernels' constants: `python -m simdeep.cost.moe.fit [FOLDER]`.

Writes `deepep.yaml` (constants) and `residuals.csv` (every row, the model's figure, and whether the
row was fitted or predicted) to the folder, by default the package's own.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simdeep.cost.fit.write import to_yaml
from simdeep.cost.moe.constants import DATA, kernels_of
from simdeep.cost.moe.copies import F64
from simdeep.cost.moe.measured import (
    TABLES,
    Compared,
    Row,
    Table,
    compare,
    compare_all,
    measured_rows,
)

HEADER = """\
# Fitted by `python -m simdeep.cost.moe.fit`; see SOURCES.md. Do not edit by hand: change the fit or
# its data. residuals.csv has every measured row beside the model's figure.
"""

COLUMNS = (
    "table",
    "use",
    "direction",
    "ep",
    "nodes",
    "tokens",
    "sms",
    "unit",
    "measured",
    "model",
    "error",
)

FITTED_TABLES: tuple[Table, ...] = ("v1", "low_latency", "sweep")
"""Tables that constants are fitted on; the others are predicted."""

START: dict[str, float] = {
    "nic_efficiency": 0.9,
    "nvlink_efficiency": 0.85,
    "dispatch_node_GBps_per_sm": 17.0,
    "dispatch_copy_GBps_per_sm": 18.0,
    "dispatch_local_GBps_per_sm": 30.0,
    "dispatch_base_us": 30.0,
    "dispatch_local_base_us": 50.0,
    "combine_node_GBps_per_sm": 15.0,
    "combine_copy_GBps_per_sm": 13.0,
    "combine_local_GBps_per_sm": 28.0,
    "combine_base_us": 60.0,
    "combine_local_base_us": 50.0,
    "low_latency_nic_efficiency": 0.93,
    "low_latency_base_us": 30.0,
}

ASSUMED: dict[str, float] = {
    "dispatch_chunk_tokens": 20.0,
    "combine_chunk_tokens": 12.0,
    "low_latency_nvlink_efficiency": 1.0,
}
"""Not fitted. Chunks: DeepEP's recommended configuration of 16 ranks, `get_dispatch_config` and
`get_combine_config`; its 8 of larger groups would overlap 128 tokens more than measured."""

MEANING: dict[str, tuple[str, str]] = {
    "nic_efficiency": ("v1", "share of the NIC's bandwidth that the pipelined IB hop achieves"),
    "nvlink_efficiency": ("v1", "share of the usable NVLink bandwidth that copying SMs achieve"),
    "low_latency_nic_efficiency": ("low_latency", "share of the NIC's bandwidth achieved"),
    "low_latency_nvlink_efficiency": (
        "assumed",
        "share of the usable NVLink bandwidth: all SMs store to peers, nothing is forwarded",
    ),
    "low_latency_base_us": (
        "low_latency",
        "launch, casts, flags of all experts and the last poll; link latencies apart",
    ),
}
for _d in ("dispatch", "combine"):
    MEANING |= {
        f"{_d}_node_GBps_per_sm": ("sweep", "one SM's rate, token to a node's forwarder and in"),
        f"{_d}_copy_GBps_per_sm": ("sweep", "one SM's rate, forwarder to a GPU of its node"),
        f"{_d}_local_GBps_per_sm": ("sweep", "one SM's rate to a GPU, kernel of one node"),
        f"{_d}_chunk_tokens": ("published", "RDMA chunk, DeepEP's configuration of 16 ranks"),
        f"{_d}_base_us": ("sweep", "launch, channel set-up, last flags; link latencies apart"),
        f"{_d}_local_base_us": ("sweep", "the same, kernel of one node"),
        f"{_d}_notify_us": ("sweep", "layout exchange before the kernel, one node"),
        f"{_d}_notify_per_node_us": ("sweep", "more of it for each further node"),
    }


def fit_constants() -> dict[str, float]:
    """All constants: each table's own ones on that table, in turns until they agree."""
    values = START | ASSUMED | _notify()
    for _ in range(4):
        for table in FITTED_TABLES:
            values = fit_table(values, table)
    return values


def fit_table(
    values: dict[str, float], table: Table, rows: Sequence[Row] | None = None
) -> dict[str, float]:
    """`values` with one table's constants fitted anew, on all its rows or on some.

    Gauss-Newton on logarithms of constants and times; rows far off weigh less (Huber).
    """
    names = [n for n in START if MEANING[n][0] == table]
    rows = measured_rows(table) if rows is None else rows

    def residuals(point: F64) -> F64:
        trial = values | dict(zip(names, np.exp(point).tolist(), strict=True))
        kernels = kernels_of(trial)
        return np.array([compare(row, kernels).log_time_ratio for row in rows])

    point = np.log([values[n] for n in names])
    for _ in range(6):
        here = residuals(point)
        slope = np.stack([(residuals(point + 1e-4 * e) - here) / 1e-4 for e in np.eye(len(point))])
        root = np.sqrt(np.minimum(1.0, 0.05 / np.maximum(np.abs(here), 1e-9)))
        damped = np.vstack([slope.T * root[:, None], 0.02 * np.eye(len(point))])
        step = np.linalg.lstsq(damped, np.append(-here * root, np.zeros(len(point))), rcond=None)[0]
        point = point + np.clip(step, -0.3, 0.3)
        if np.abs(step).max() < 1e-4:
            break
    return values | dict(zip(names, np.exp(point).tolist(), strict=True))


def _notify() -> dict[str, float]:
    """Notify times: medians at two and four nodes, and the line through them."""
    found: dict[str, float] = {}
    for direction in ("dispatch", "combine"):
        two, four = (
            float(
                np.median(
                    [
                        r.notify_us
                        for r in measured_rows("sweep")
                        if r.direction == direction and r.nodes == nodes
                    ]
                )
            )
            for nodes in (2, 4)
        )
        slope = (four - two) / 2
        found |= {f"{direction}_notify_us": two - slope, f"{direction}_notify_per_node_us": slope}
    return found


def document(values: dict[str, float], compared: Sequence[Compared]) -> dict[str, Any]:
    """The constants' file: each with what it means and what it was fitted on, then the errors."""
    constants = {
        name: {"value": value, "fitted_on": MEANING[name][0], "meaning": MEANING[name][1]}
        for name, value in values.items()
    }
    errors = {}
    for table in TABLES:
        sizes = np.array([abs(c.error) for c in compared if c.row.table == table])
        errors[table] = {
            "rows": len(sizes),
            "use": "fitted" if table in FITTED_TABLES else "predicted",
            "median_error": float(np.median(sizes)),
            "max_error": float(sizes.max()),
        }
    return {"constants": constants, "errors": errors}


def write(folder: Path) -> None:
    """Fit and write both files."""
    values = fit_constants()
    rounded = {name: float(f"{value:.4g}") for name, value in values.items()}
    compared = list(compare_all(TABLES, kernels_of(rounded)))
    (folder / "deepep.yaml").write_text(HEADER + to_yaml(document(rounded, compared)), "utf-8")
    with (folder / "residuals.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for c in compared:
            out.writerow(_residual(c.row, c))


def _residual(row: Row, c: Compared) -> list[object]:
    use = "fitted" if row.table in FITTED_TABLES else "predicted"
    size = [row.nodes * 8, row.nodes, row.tokens, row.sms]
    found = [row.unit, row.value, f"{c.model:.4g}", f"{c.error:.3f}"]
    return [row.table, use, row.direction, *size, *found]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.cost.moe.fit", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=DATA, help="where to write")
    write(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    main()
