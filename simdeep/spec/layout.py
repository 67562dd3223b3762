"""The parallel layout: degrees, rank order, groups, and which stage holds which layers.

Rank order, innermost first: tp, cp, dp, pp, so that

    rank = tp + TP * (cp + CP * (dp + DP * pp))

and pipeline neighbours are TP*CP*DP ranks apart, in different nodes. Experts have no tensor split
of their own: within one pipeline rank the block of TP*CP*DP ranks is cut a second time, into runs
of EP neighbours, as Megatron does with an expert tensor parallel degree of 1:

    rank % (TP*CP*DP) = ep + EP * edp

Rank r is GPU r of the topology, on node r // gpus_per_node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from simdeep.errors import InputError, Problem
from simdeep.spec.flops import attention_macs, attention_weights, ffn_weights
from simdeep.spec.model import Model

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

GroupKind = Literal["tp", "cp", "dp", "dp_cp", "pp", "ep", "edp", "stage"]
"""Kinds of rank groups: one per degree; `dp_cp` holds the replicas of a dense parameter, `edp`
those of an expert parameter, `stage` all ranks of one pipeline rank."""
GROUP_KINDS: tuple[GroupKind, ...] = get_args(GroupKind)


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What one pipeline stage holds: consecutive decoder layers and the edges of the model."""

    index: int
    layers: tuple[int, ...]
    embedding: bool = False
    head: bool = False
    mtp: bool = False


class Coordinates(NamedTuple):
    """Place of ranks in every parallel dimension; arrays of one shape."""

    pp: I64
    dp: I64
    cp: I64
    tp: I64
    ep: I64
    edp: I64


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """How the groups of one kind lie on nodes: most nodes of a group, most ranks on one node."""

    size: int
    nodes: int
    ranks_per_node: int

    @property
    def within_node(self) -> bool:
        """Whether every group lies inside one node."""
        return self.nodes == 1


@dataclass(frozen=True)
class Layout:
    """Degrees of parallelism and the stages; the constructor refuses a layout that cannot be.

    `zero` is the ZeRO level of the data parallel group, `sp` Megatron's sequence parallelism on the
    tp group. `stages` has pp * vpp entries, or none where stages do not matter.
    """

    tp: int = 1
    pp: int = 1
    vpp: int = 1
    cp: int = 1
    ep: int = 1
    dp: int = 1
    zero: int = 1
    sp: bool = False
    stages: tuple[StageSpec, ...] = ()

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise InputError(problems)

    def _problems(self) -> list[Problem]:
        degrees = {k: getattr(self, k) for k in ("tp", "pp", "vpp", "cp", "ep", "dp")}
        bad = [
            k for k, v in degrees.items() if isinstance(v, bool) or not isinstance(v, int) or v < 1
        ]
        problems = [
            Problem("", f"layout.{k}", f"is {degrees[k]!r}; must be an integer of at least 1")
            for k in bad
        ]
        if self.zero not in (0, 1, 2, 3):
            problems.append(Problem("", "layout.zero", f"is {self.zero!r}; must be 0, 1, 2 or 3"))
        if bad:
            return problems
        if self.stage_size % self.ep:
            rule = f"dp*cp*tp = {self.dp}*{self.cp}*{self.tp} = {self.stage_size}"
            fits = [d for d in range(self.ep, 0, -1) if self.stage_size % d == 0]
            problems.append(
                Problem("", "layout.ep", f"is {self.ep}; must divide {rule}, as {fits[0]} does")
            )
        if self.stages and len(self.stages) != self.n_stages:
            problems.append(
                Problem(
                    "",
                    "layout.stages",
                    f"has {len(self.stages)} stages; pp*vpp = {self.pp}*{self.vpp} needs "
                    f"{self.n_stages}",
                )
            )
        elif self.stages:
            problems += _stage_problems(self.stages)
        return problems

    @property
    def n_ranks(self) -> int:
        """GPUs of the job."""
        return self.tp * self.cp * self.dp * self.pp

    @property
    def stage_size(self) -> int:
        """Ranks that share one pipeline rank: tp * cp * dp."""
        return self.tp * self.cp * self.dp

    @property
    def n_stages(self) -> int:
        """Stages over all pipeline ranks: pp * vpp."""
        return self.pp * self.vpp

    @property
    def edp(self) -> int:
        """Replicas of an expert parameter: dp * cp * tp / ep."""
        return self.stage_size // self.ep

    def size(self, kind: GroupKind) -> int:
        """Members of each group of a kind."""
        if kind == "dp_cp":
            return self.dp * self.cp
        if kind == "stage":
            return self.stage_size
        size: int = getattr(self, kind)
        return size

    def coordinates(self, ranks: npt.ArrayLike | None = None) -> Coordinates:
        """Coordinates of the given ranks, or of all ranks in order."""
        r = np.arange(self.n_ranks) if ranks is None else np.asarray(ranks, dtype=np.int64)
        if np.any((r < 0) | (r >= self.n_ranks)):
            raise ValueError(f"rank outside 0..{self.n_ranks - 1}")
        pp, within = np.divmod(r, self.stage_size)
        rest, tp = np.divmod(within, self.tp)
        dp, cp = np.divmod(rest, self.cp)
        edp, ep = np.divmod(within, self.ep)
        return Coordinates(pp, dp, cp, tp, ep, edp)

    def groups(self, kind: GroupKind) -> I64:
        """All groups of a kind as ranks, shape [groups, members]; members in coordinate order."""
        ranks = np.arange(self.n_ranks, dtype=np.int64)
        dense = ranks.reshape(self.pp, self.dp, self.cp, self.tp)
        expert = ranks.reshape(self.pp, self.edp, self.ep)
        by_kind: dict[GroupKind, I64] = {
            "tp": dense,
            "cp": np.moveaxis(dense, 2, -1),
            "dp": np.moveaxis(dense, 1, -1),
            "dp_cp": np.moveaxis(dense, 3, 1),
            "pp": np.moveaxis(dense, 0, -1),
            "ep": expert,
            "edp": np.moveaxis(expert, 1, -1),
            "stage": dense,
        }
        return by_kind[kind].reshape(-1, self.size(kind))

    def group_index(self, kind: GroupKind) -> I64:
        """For every rank, the row of `groups(kind)` that holds it."""
        groups = self.groups(kind)
        index = np.empty(self.n_ranks, dtype=np.int64)
        index[groups] = np.arange(len(groups))[:, None]
        return index

    def group_of(self, kind: GroupKind, rank: int) -> I64:
        """Ranks of the group of a kind that holds a rank."""
        groups = self.groups(kind)
        found: I64 = groups[self.group_index(kind)[rank]]
        return found

    def ranks_of(self, **where: int) -> I64:
        """Ranks with the given coordinates, e.g. `ranks_of(pp=0, ep=3)`, ascending."""
        coordinates = self.coordinates()._asdict()
        keep = np.ones(self.n_ranks, dtype=bool)
        for name, value in where.items():
            keep &= coordinates[name] == value
        return np.flatnonzero(keep)

    def pipeline_rank_of_stage(self, stage: int, direction: int = 0) -> int:
        """Pipeline rank that holds a stage: stages go round the ranks; direction 1 is DualPipe's
        second one, which runs from the last pipeline rank to the first."""
        place = stage % self.pp
        return place if direction == 0 else self.pp - 1 - place

    def devices_of_stage(self, stage: int, direction: int = 0) -> I64:
        """Ranks that hold a stage, ascending."""
        first = self.pipeline_rank_of_stage(stage, direction) * self.stage_size
        return np.arange(first, first + self.stage_size, dtype=np.int64)

    def nodes_spanned(self, kind: GroupKind, gpus_per_node: int) -> I64:
        """Nodes each group of a kind touches, shape [groups]."""
        nodes = np.sort(self.groups(kind) // gpus_per_node, axis=1)
        spanned: I64 = 1 + np.count_nonzero(np.diff(nodes, axis=1), axis=1)
        return spanned

    def span(self, kind: GroupKind, gpus_per_node: int) -> GroupSpan:
        """How the groups of a kind lie on nodes (the worst group where they differ)."""
        groups = self.groups(kind)
        nodes = groups // gpus_per_node
        n_nodes = -(-self.n_ranks // gpus_per_node)
        keys = np.arange(len(groups))[:, None] * n_nodes + nodes
        most = np.unique(keys, return_counts=True)[1].max()
        widest = self.nodes_spanned(kind, gpus_per_node).max()
        return GroupSpan(self.size(kind), int(widest), int(most))


def _stage_problems(stages: Sequence[StageSpec]) -> list[Problem]:
    """Layers must run 0, 1, 2, ... over the stages; embedding on the first, head on the last."""

    def problem(text: str) -> Problem:
        return Problem("", "layout.stages", text)

    problems = []
    if [s.index for s in stages] != list(range(len(stages))):
        problems.append(problem("must be numbered 0, 1, 2, ..."))
    layers = [layer for stage in stages for layer in stage.layers]
    if layers != list(range(len(layers))):
        problems.append(problem("must hold consecutive layers, each once"))
    problems += [
        problem(f"stage {s.index} holds nothing; give it a layer, or use fewer stages")
        for s in stages
        if not (s.layers or s.embedding or s.head or s.mtp)
    ]
    if not stages[0].embedding or any(s.embedding for s in stages[1:]):
        problems.append(problem("the embedding must be on the first stage only"))
    if not stages[-1].head or any(s.head for s in stages[:-1]):
        problems.append(problem("the head must be on the last stage only"))
    if any(s.mtp for s in stages[:-1]):
        problems.append(problem("the MTP module must be with the head, on the last stage"))
    return problems


def stages_from_counts(counts: Sequence[int], *, mtp: bool) -> tuple[StageSpec, ...]:
    """Stages with the given numbers of decoder layers; edges on the first and the last."""
    bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
    last = len(counts) - 1
    return tuple(
        StageSpec(
            index=i,
            layers=tuple(range(bounds[i], bounds[i + 1])),
            embedding=i == 0,
            head=i == last,
            mtp=mtp and i == last,
        )
        for i in range(len(counts))
    )


@lru_cache(maxsize=1024)
def auto_stages(
    model: Model,
    n_stages: int,
    vpp: int = 1,
    *,
    head_weight: float = 1.0,
    mtp: bool = True,
    seq_len: int = 4096,
) -> tuple[StageSpec, ...]:
    """Balance decoder layers over stages by forward FLOPs, every stage at least one layer.

    `n_stages` counts pipeline ranks, so pp * vpp stages come out. The first stage also holds the
    embedding, which costs no FLOPs; the last the head and, with `mtp`, the MTP modules, weighed
    by their FLOPs times `head_weight`. The partition is exact: the smallest possible largest
    stage, and among those the one with the least sum of squares.
    """
    n = n_stages * vpp
    if n > model.n_layers:
        raise InputError(
            [
                Problem(
                    "",
                    "layout.pp",
                    f"pp*vpp = {n_stages}*{vpp} = {n} stages; {model.name} has only "
                    f"{model.n_layers} layers to share out",
                )
            ]
        )
    shared = attention_weights(model) + attention_macs(model, seq_len, causal=True)
    head = 2.0 * model.vocab * model.hidden
    layers = [2.0 * (shared + ffn_weights(model, layer)) for layer in model.layers]
    edge = head
    if mtp:
        # A module: a 2h -> h projection, a decoder layer, and the shared head once more.
        around = 4.0 * model.hidden**2 + head
        edge += sum(2.0 * (shared + ffn_weights(model, m)) + around for m in model.mtp)
    counts = balanced_partition(layers, n, last_extra=edge * head_weight)
    return stages_from_counts(counts, mtp=mtp and model.mtp_layers > 0)


def balanced_partition(costs: npt.ArrayLike, parts: int, last_extra: float = 0.0) -> list[int]:
    """Cut a row of costs into non-empty runs: least largest run, then least sum of squares.

    `last_extra` is added to the last run. Returns the length of each run. Ties take the cut that
    leaves the later runs longer. O(parts * n^2).
    """
    cost = np.asarray(costs, dtype=np.float64)
    n = len(cost)
    if not 1 <= parts <= n:
        raise ValueError(f"cannot cut {n} items into {parts} non-empty runs")
    total = np.concatenate([[0.0], np.cumsum(cost)])
    run = total[None, :] - total[:, None]  # run[i, j]: cost of items i..j-1
    run[np.tril_indices(n + 1)] = np.inf
    final = run.copy()
    final[:, n] += last_extra
    largest, _ = _best_cut(run, final, parts, np.maximum)
    bound = largest * (1 + 1e-12)
    squares = [np.where(c <= bound, c, np.inf) ** 2 for c in (run, final)]
    return _best_cut(squares[0], squares[1], parts, np.add)[1]


def _best_cut(run: F64, final: F64, parts: int, combine: np.ufunc) -> tuple[float, list[int]]:
    """Dynamic programme over cuts: least value of the runs' costs joined by `combine`, and the run
    lengths that reach it."""
    best = run[0] if parts > 1 else final[0]
    came_from = []
    for part in range(1, parts):
        value = combine(best[:, None], final if part == parts - 1 else run)
        came_from.append(value.argmin(axis=0))
        best = value.min(axis=0)
    ends = [len(best) - 1]
    for previous in reversed(came_from):
        ends.append(int(previous[ends[-1]]))
    return float(best[-1]), np.diff([0, *reversed(ends)]).tolist()
