"""The exact optimum of a tiny schedule search as a mixed-integer linear programme.

Independent of the search: every F, I and W of every micro-batch has its own start, and of every two
on a rank one comes first. Full backwards and blocks are left out: without gain from overlap, and
with no more bytes held after I than after F, they are never needed.
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from simdeep.program.search import Task

_FEW = 18


def optimum(task: Task) -> float:
    """The smallest makespan."""
    place = task.placement
    stages, count, ways = place.n_stages, place.microbatches, len(place.stage_ranks)
    p2p = task.costs.transfer()
    single = task.costs.single(stages)
    acts = [(k, s, m) for m in range(count) for s in range(stages) for k in range(3)]
    index = {act: number for number, act in enumerate(acts)}
    took = np.array([single[k, s] for k, s, _ in acts])
    rank = [place.stage_ranks[m * ways // count][s] for _, s, m in acts]
    n = len(acts)
    horizon = float(took.sum() + 2 * p2p * stages * count)
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n) if rank[a] == rank[b]]
    first = {pair: n + 1 + number for number, pair in enumerate(pairs)}  # 1: a before b
    rows: list[tuple[dict[int, float], float]] = []  # sum of coefficient * variable >= constant

    for (k, s, m), a in index.items():
        rows.append(({n: 1, a: -1}, took[a]))
        needs = [index[k - 1, s, m]] if k else []
        if k == 0 and s:
            needs.append(index[0, s - 1, m])
        if k == 1 and s < stages - 1:
            needs.append(index[1, s + 1, m])
        for b in needs:
            rows.append(({a: 1, b: -1}, took[b] + (p2p if rank[a] != rank[b] else 0)))
    for (a, b), y in first.items():
        rows.append(({b: 1, a: -1, y: -horizon}, took[a] - horizon))
        rows.append(({a: 1, b: -1, y: horizon}, took[b]))
    for (k, s, m), a in index.items():
        # Micro-batches of a direction are alike: name them as they enter the first stage. Where
        # there are many actions, keep them in that order throughout (an exchange never delays).
        alike = m + 1 < count and (m + 1) * ways // count == m * ways // count
        if alike and ((k, s) == (0, 0) or n > _FEW):
            rows.append(({first[a, index[k, s, m + 1]]: 1}, 1.0))
    after_f, after_i = task.activations.sizes(stages)
    limit = task.activations.limits(place.n_ranks)
    for (k, s, _), a in index.items():
        if k or not np.isfinite(limit[rank[a]]):
            continue
        terms: dict[int, float] = {}
        room = limit[rank[a]] - after_f[s]  # less what the actions before this forward hold
        for (k2, s2, _), b in index.items():
            if b == a or rank[b] != rank[a]:
                continue
            held = (after_f[s2], after_i[s2] - after_f[s2], -after_i[s2])[k2]
            if b < a:
                terms[first[b, a]] = -held
            else:
                terms[first[a, b]] = held
                room -= held
        rows.append((terms, -room))

    matrix = lil_matrix((len(rows), n + 1 + len(pairs)))
    for number, (terms, _) in enumerate(rows):
        for variable, value in terms.items():
            matrix[number, variable] = value
    size = matrix.shape[1]
    whole = np.arange(size) > n
    result = milp(
        np.arange(size) == n,
        constraints=LinearConstraint(matrix.tocsr(), [c for _, c in rows], np.inf),
        integrality=whole,
        bounds=Bounds(np.zeros(size), np.where(whole, 1.0, horizon)),
        options={"time_limit": 60, "mip_rel_gap": 1e-9},
    )
    assert result.status == 0, result.message
    return float(result.fun)
