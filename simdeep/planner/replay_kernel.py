"""The compiled loop of `replay`: a table's cells in order, each as soon as its inputs are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simdeep.jit import njit

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@njit
def run_cells(
    row_ptr: I64,
    kind: I64,
    f_stage: I64,
    f_mb: I64,
    b_stage: I64,
    b_mb: I64,
    f_far: I64,
    b_far: I64,
    n_mb: int,
    busy: F64,
    out: F64,
    lead: F64,
    pair: F64,
    send: float,
    free: F64,
) -> int:
    """Fill `free` [ranks] with the time each rank's last cell ends; returns cells that never ran.

    `kind`: 0 F, 1 I, 2 W, 3 B, 4 a block. `busy` and `out` [4, stages] by kind, `lead` [stages]
    between a gradient's arrival and its first compute, `pair` [stages, stages].
    """
    n_ranks, last = len(row_ptr) - 1, busy.shape[1] - 1
    f_done = np.full((last + 1, n_mb), -1.0)
    b_done = np.full((last + 1, n_mb), -1.0)
    at = row_ptr[:-1].copy()
    left = row_ptr[-1]
    moved = True
    while moved:
        moved = False
        for rank in range(n_ranks):
            while at[rank] < row_ptr[rank + 1]:
                cell = at[rank]
                what, f, b = kind[cell], f_stage[cell], b_stage[cell]
                start = free[rank]
                if f > 0:
                    came = f_done[f - 1, f_mb[cell]]
                    if came < 0:
                        break
                    start = max(start, came + send * f_far[cell])
                ready = start
                if b >= 0 and what != 2 and b < last:
                    came = b_done[b + 1, b_mb[cell]]
                    if came < 0:
                        break
                    ready = max(ready, came + send * b_far[cell] + lead[b])
                if what == 4:
                    f_done[f, f_mb[cell]] = start + out[0, f]
                    b_done[b, b_mb[cell]] = ready + out[3, b]
                    free[rank] = max(start + pair[f, b], ready + busy[3, b])
                elif what == 0:
                    f_done[f, f_mb[cell]] = start + out[0, f]
                    free[rank] = start + busy[0, f]
                else:
                    if what != 2:
                        b_done[b, b_mb[cell]] = ready + out[what, b]
                    free[rank] = ready + busy[what, b]
                at[rank] += 1
                left -= 1
                moved = True
    return int(left)
