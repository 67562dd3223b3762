"""The algorithms of all-reduce, all-gather and reduce-scatter as messages.

Ranks come as a grid [nodes, GPUs of a node]; the GPUs of a column share a rail. Traffic is spread
evenly over the rails, as NCCL does with its channels.
"""

from __future__ import annotations

import numpy as np

from simdeep.cost.collectives.messages import (
    I64,
    NVLS_SHARE,
    SWITCH,
    Algorithm,
    Messages,
    Operation,
    Plan,
    direct,
)

_PASSES = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}


def algorithms_for(operation: Operation, grid: I64, *, nvls: bool) -> tuple[Algorithm, ...]:
    """Algorithms that can do an operation on this grid of ranks."""
    nodes, width = grid.shape
    if operation in ("send", "all_to_all"):
        return ("direct",)
    found: list[Algorithm] = ["ring"]
    if operation == "all_reduce":
        found.append("tree")
    if nodes > 1 and width > 1:
        found.append("hierarchical")
    if nvls and width > 2:
        found.append("nvls")
    return tuple(found)


def messages(
    operation: Operation, algorithm: Algorithm, grid: I64, nbytes: float, *, stepped: bool = False
) -> Messages:
    """What a collective of S = `nbytes` sends.

    `stepped` sends a ring's steps one by one, each after the one its data came with, where
    otherwise a ring is one pipelined message; both take the same time where nothing contends.
    """
    if operation not in _PASSES:
        return direct(operation, grid.ravel(), nbytes)
    passes, plan = _PASSES[operation], Plan()
    if grid.size == 1:
        return plan.done()
    if algorithm == "ring":
        for order in flat_rings(grid):
            _ring(plan, order, nbytes / grid.shape[1], passes, grid.shape[1], stepped)
    elif algorithm == "tree":
        _trees(plan, grid, nbytes)
    elif algorithm == "hierarchical":
        _hierarchical(plan, grid, nbytes, passes)
    elif algorithm == "nvls":
        _nvls(plan, operation, grid, nbytes, passes)
    else:
        raise ValueError(f"{operation} has no algorithm {algorithm!r}")
    return plan.done()


def flat_rings(grid: I64) -> list[I64]:
    """One ring over all ranks for each rail, so that every NIC carries one ring out and one in.

    A ring enters a node where it left the one before (same rail) and leaves by a neighbour; going
    back and forth between two rails, it closes on its own rail for an even number of nodes.
    """
    nodes, width = grid.shape
    rings = []
    for rail in range(width):
        up = np.roll(grid, -rail, axis=1)
        down = up[:, ::-1]
        even = (np.arange(nodes) % 2 == 0)[:, None]
        rings.append(np.where(even, up, down).ravel())
    return rings


def _ring(plan: Plan, order: I64, nbytes: float, passes: int, width: int, stepped: bool) -> None:
    """A ring in which (N-1)/N of the bytes cross every hop a pass."""
    n = len(order)
    after = np.roll(order, -1)
    if stepped:
        before: list[int] = []
        for step in range(passes * (n - 1)):
            base = len(plan.nbytes)
            for i in range(n):
                needed = [before[i - 1]] if step else []
                plan.add(order[i], after[i], nbytes / n, after=needed)
            before = list(range(base, base + n))
        return
    # Data that goes round crosses all hops but one; the longest wait skips one inside a node.
    weight = np.full(n, float(passes))
    weight[0 if width > 1 else n - 1] = 0.0
    plan.add(order, after, passes * (n - 1) / n * nbytes, weight)


def _hierarchical(plan: Plan, grid: I64, nbytes: float, passes: int) -> None:
    """Rings in the nodes and rings along the rails, pipelined: both run at once.

    The first chunk passes through both, so each has the latency of both.
    """
    nodes, width = grid.shape
    inside = [(row, (width - 1) / width * nbytes / width) for row in _rotations(grid)]
    rails = [(column, (nodes - 1) / nodes * nbytes / width) for column in grid.T]
    for order, moved in inside + rails:
        _through(plan, order, passes * moved, passes, grid)


def _rotations(grid: I64) -> list[I64]:
    """Each node's ring once for each of its GPUs, so that all links of the switch are equal."""
    width = grid.shape[1]
    return [np.roll(row, -k) for row in grid for k in range(width)]


def _through(plan: Plan, order: I64, moved: float, passes: int, grid: I64) -> None:
    """A ring's message with the latency of a way along the first rail and the first node."""
    way_src = np.concatenate([grid[:-1, 0], grid[0, :-1]])
    way_dst = np.concatenate([grid[1:, 0], grid[0, 1:]])
    first = plan.add(way_src, way_dst, 0.0, float(passes))
    plan.add(order, np.roll(order, -1), moved, 0.0, after=[first])


def tree_parents(n: int) -> I64:
    """Parents in NCCL's binary tree over 0..n-1 (root 0, its own parent): odd ranks are leaves.

    As ncclGetBtree (NVIDIA/nccl src/graph/trees.cc): with b the lowest set bit of r, the parent is
    r with b cleared and the next bit set, or r with b cleared where that is beyond the last rank.
    """
    parent = np.zeros(n, np.int64)
    for r in range(1, n):
        bit = r & -r
        up = (r ^ bit) | (bit << 1)
        parent[r] = up if up < n else r ^ bit
    return parent


def double_tree(n: int) -> tuple[I64, I64]:
    """Two trees in which a leaf of one is inside the other (ncclGetDtree): mirrored, or shifted."""
    first = tree_parents(n)
    ranks = np.arange(n)
    if n % 2 == 0:
        return first, n - 1 - first[n - 1 - ranks]
    return first, (first[(ranks - 1) % n] + 1) % n


def _trees(plan: Plan, grid: I64, nbytes: float) -> None:
    """All-reduce: up and down two trees a rail, each with half the rail's bytes.

    In a node a chain leads to the rail's GPU; the chains of the rails start at different GPUs.
    """
    nodes, width = grid.shape
    for rail in range(width):
        chain = np.roll(grid, -rail, axis=1)
        for parent in double_tree(nodes):
            child = np.flatnonzero(parent != np.arange(nodes))
            depth = np.zeros(nodes, np.int64)
            for node in range(nodes):
                at = node
                while parent[at] != at:
                    at, depth[node] = int(parent[at]), depth[node] + 1
            # Only the way from the deepest node counts for the latency.
            longest, at = [], int(depth.argmax())
            deepest = at
            while parent[at] != at:
                longest.append(at)
                at = int(parent[at])
            up_src = np.concatenate([chain[:, 1:].ravel(), chain[child, 0]])
            up_dst = np.concatenate([chain[:, :-1].ravel(), chain[parent[child], 0]])
            in_chain = np.repeat(np.arange(nodes) == deepest, width - 1)
            weight = np.concatenate([in_chain, np.isin(child, longest)]).astype(np.float64)
            plan.add(
                np.concatenate([up_src, up_dst]),
                np.concatenate([up_dst, up_src]),
                nbytes / width / 2,
                np.tile(weight, 2),
            )


def _nvls(plan: Plan, operation: Operation, grid: I64, nbytes: float, passes: int) -> None:
    """The switch of each node reduces and multicasts; the rails do the rest between nodes.

    Each GPU looks after 1/N of a node's bytes. To reduce that part, every GPU of the node sends it
    and the owner receives the sum; to spread it, the owner sends it and every GPU receives it
    (itself too, as all other traffic of the switch): an all-reduce takes S (1 + 1/N) each way.
    """
    nodes, width = grid.shape
    # Each way a port carries `width` parts, and one more where it both reduces and spreads.
    share = NVLS_SHARE / (width + (operation == "all_reduce"))
    reduces, spreads = operation != "all_gather", operation != "reduce_scatter"
    for row in grid:
        for owner in row:
            src = [*row, SWITCH] * reduces + [owner, *[SWITCH] * width] * spreads
            dst = [*[SWITCH] * width, owner] * reduces + [SWITCH, *row] * spreads
            once = np.zeros(width + 1)
            once[0] = once[-1] = 1.0
            plan.add(src, dst, nbytes / width, np.tile(once, passes), share=share)
    if nodes > 1:
        for column in grid.T:
            _through(plan, column, passes * (nodes - 1) / nodes * nbytes / width, passes, grid)
