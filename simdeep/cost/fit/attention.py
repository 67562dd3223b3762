"""Attention cores: FLOP/s of one SM, the causal half of the scores counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simdeep.cost.fit.rows import TRACE_SMS, Row


def attention_entries(rows: Sequence[Row], drag: float) -> list[dict[str, Any]]:
    """Attention entries of a calibration file: both directions of the trace's flash attention."""
    entries = []
    for variant in ("fwd", "bwd"):
        mine = [r for r in rows if r.op == f"attn_core_{variant}"]
        free = np.array([r.dur / (1.0 + drag * r.under) for r in mine])
        flop = np.array([r.flop for r in mine])
        rate = float(flop.sum() / free.sum()) / 1e6
        errors = np.abs(flop / (rate * 1e6) / free - 1.0)
        entries.append(
            {
                "dtype": "bf16",
                "variant": variant,
                "tflops_per_sm": rate / TRACE_SMS,
                "kind": "measured",
                "source": "h800_train_trace.csv: 128 heads of 192 and 128, 4,096 tokens, causal; "
                "112 SMs left by a transfer, its drag taken out",
                "rows": len(mine),
                "median_error": float(np.median(errors)),
                "max_error": float(errors.max()),
            }
        )
    return entries
