"""The local search for a placement, as a plain function that numba compiles on first use.

Kept in a file of its own, as numba's on-disk cache is keyed by the source file.
"""

from __future__ import annotations

import numpy as np

from simdeep.program.routing.kernels import F64, I64


def search_kernel(load: F64, slots: I64, ranks_per_node: int, kicks: I64) -> None:
    """Improve `slots` [ranks, slots a rank] (expert of each slot) in place, to lower the peak load.

    The load of a slot is its expert's over the expert's replicas. Descent: of the GPU with the peak
    load, swap the slot with one of another GPU of its node that leaves the lowest peak of the two,
    until none lowers it. Then, for each row of `kicks` [rounds, 3] of random numbers, the best
    slots so far are changed: a replica is given to an expert of the GPU with the peak, or one or
    two to others of the node, or two random swaps are made; descent follows, and the outcome is
    kept if its peak is lower, or as low with less of a sum of squares. No change makes a GPU hold
    an expert twice.
    """
    ranks, per_rank = slots.shape
    replicas = np.zeros(load.shape[0], np.int64)
    total = np.empty(ranks, np.float64)
    best = slots.copy()
    best_peak = np.inf
    best_square = np.inf
    hot = 0
    for trial in range(kicks.shape[0] + 1):
        if trial > 0:
            for rank in range(ranks):  # not by slices: numba is slow to compile those
                for slot in range(per_rank):
                    slots[rank, slot] = best[rank, slot]
            kind = kicks[trial - 1, 0] % 4
            first, second = kicks[trial - 1, 1], kicks[trial - 1, 2]
            for _ in range(1 + kind % 2):
                rank, slot = first % ranks, first // ranks % per_rank
                node = rank // ranks_per_node
                if kind == 0 and hot // ranks_per_node == node:
                    other = hot
                else:
                    other = node * ranks_per_node + second % ranks_per_node
                place = second // ranks_per_node % per_rank
                old, new = slots[rank, slot], slots[other, place]
                clash = rank == other
                for i in range(per_rank):
                    clash |= slots[rank, i] == new
                    clash |= kind == 3 and slots[other, i] == old
                if not clash and kind == 3:
                    slots[rank, slot], slots[other, place] = new, old
                elif not clash and replicas[old] > 1:
                    slots[rank, slot] = new
                    replicas[old] -= 1
                    replicas[new] += 1
                first, second = second // 7, first // 7
        replicas[:] = 0
        for rank in range(ranks):
            for slot in range(per_rank):
                replicas[slots[rank, slot]] += 1
        for rank in range(ranks):
            total[rank] = 0.0
            for slot in range(per_rank):
                total[rank] += load[slots[rank, slot]] / replicas[slots[rank, slot]]
        while True:
            hot = 0
            for rank in range(ranks):
                if total[rank] > total[hot]:
                    hot = rank
            least = total[hot] * (1.0 - 1e-9)
            best_slot, best_other, best_place = -1, -1, -1
            first_rank = hot // ranks_per_node * ranks_per_node
            for slot in range(per_rank):
                old = slots[hot, slot]
                share = load[old] / replicas[old]
                for other in range(first_rank, first_rank + ranks_per_node):
                    if other == hot:
                        continue
                    for place in range(per_rank):
                        new = slots[other, place]
                        moved = share - load[new] / replicas[new]
                        peak = max(total[hot] - moved, total[other] + moved)
                        if peak < least:
                            clash = False
                            for i in range(per_rank):
                                clash |= slots[hot, i] == new or slots[other, i] == old
                            if not clash:
                                least = peak
                                best_slot, best_other, best_place = slot, other, place
            if best_slot < 0:
                break
            old, new = slots[hot, best_slot], slots[best_other, best_place]
            slots[hot, best_slot], slots[best_other, best_place] = new, old
            moved = load[old] / replicas[old] - load[new] / replicas[new]
            total[hot] -= moved
            total[best_other] += moved
        square = 0.0
        for rank in range(ranks):
            square += total[rank] * total[rank]
        if total[hot] < best_peak or (total[hot] == best_peak and square < best_square):
            best_peak, best_square = total[hot], square
            for rank in range(ranks):
                for slot in range(per_rank):
                    best[rank, slot] = slots[rank, slot]
        else:
            # The next kick starts from the best slots: its replicas and its peak are meant.
            replicas[:] = 0
            for rank in range(ranks):
                total[rank] = 0.0
                for slot in range(per_rank):
                    replicas[best[rank, slot]] += 1
            hot = 0
            for rank in range(ranks):
                for slot in range(per_rank):
                    total[rank] += load[best[rank, slot]] / replicas[best[rank, slot]]
                if total[rank] > total[hot]:
                    hot = rank
    for rank in range(ranks):
        for slot in range(per_rank):
            slots[rank, slot] = best[rank, slot]
