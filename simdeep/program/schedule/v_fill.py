"""Weight gradients put into an order of forwards and input gradients; compiled."""

from __future__ import annotations

import numpy as np

from simdeep.jit import njit
from simdeep.program.schedule.table import I64

_F, _I, _W = range(3)


@njit
def filled(kind: I64, stage: I64, mb: I64, most: int) -> tuple[I64, I64]:  # pragma: no cover
    """Run the ranks' orders with every action taking one unit, and W where a rank would wait.

    A rank waits for an action's input, or with its next F until it holds fewer than `most` chunks
    (freed after W). The oldest W comes first.

    Args:
        kind: [rank][place] 0 for F, 1 for I; stages lie in a V.
        stage: [rank][place].
        mb: [rank][place].
        most: chunks a rank may hold.

    Returns:
        [rank][place][kind (2: W), stage, micro-batch] and the length of each row.
    """
    ranks, n = kind.shape
    n_stages, microbatches = 2 * ranks, n // 4
    cells = np.zeros((ranks, n + n // 2, 3), np.int64)
    length = np.zeros(ranks, np.int64)
    at = np.zeros(ranks, np.int64)
    late = np.zeros((ranks, n // 2, 2), np.int64)
    put, taken = np.zeros(ranks, np.int64), np.zeros(ranks, np.int64)
    held = np.zeros(ranks, np.int64)
    done = np.full((2, n_stages, microbatches), -1, np.int64)  # time of the end
    left = ranks * (n + n // 2)
    now = 0
    while left > 0:
        before = left
        for rank in range(ranks):
            place = at[rank]
            ready = place < n
            if ready:
                k, s, m = kind[rank, place], stage[rank, place], mb[rank, place]
                if k == _F:
                    ready = held[rank] < most
                    end = 0 if s == 0 else done[_F, s - 1, m]
                elif s == n_stages - 1:
                    end = done[_F, s, m]
                else:
                    end = done[_I, s + 1, m]
                ready = ready and 0 <= end <= now
            if not ready:
                if taken[rank] == put[rank]:
                    continue
                k = _W
                s, m = late[rank, taken[rank]]
                taken[rank] += 1
                held[rank] -= 1
            else:
                at[rank] += 1
                done[k, s, m] = now + 1
                if k == _F:
                    held[rank] += 1
                else:
                    late[rank, put[rank]] = s, m
                    put[rank] += 1
            cells[rank, length[rank]] = k, s, m
            length[rank] += 1
            left -= 1
        if left == before and now > 8 * n:
            break
        now += 1
    return cells, length
