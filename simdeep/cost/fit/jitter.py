"""Kernel jitter: how much the same work differs in time from one run of it to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simdeep.cost.fit.drag import free_us
from simdeep.cost.fit.gemm import drag_class
from simdeep.cost.fit.rows import Row

MAIN_STREAM = 7


def kernel_cv(rows: Sequence[Row], drag: Mapping[str, float]) -> dict[str, Any]:
    """Coefficient of variation of a component's kernel time over the trace's layers.

    Taken from the attention phases, whose shapes are the same in every layer; gaps are left out and
    the drag of transfers beside is taken off. The same GPU at different times stands for different
    GPUs at the same time, for which there is no data here.
    """
    phases: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row.stream == MAIN_STREAM and row.phase.startswith("attn"):
            phases[row.phase][row.layer] += free_us(row, drag[_drag_class(row)])
    times = [np.array(list(layers.values())) for layers in phases.values()]
    squares = [(t.std(ddof=1) / t.mean()) ** 2 for t in times]
    return {
        "value": float(np.sqrt(np.mean(squares))),
        "kind": "measured",
        "source": "h800_train_trace.csv: kernel time of attn(F), attn(B) and attn(W) over the four "
        "layers, drag of transfers taken off; root mean square of the three",
        "rows": sum(len(t) for t in times),
    }


def _drag_class(row: Row) -> str:
    if row.op.startswith("attn_core"):
        return "attention"
    return drag_class(row.op) if row.m else "memory"
