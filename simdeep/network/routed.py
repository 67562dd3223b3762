"""Tokens of one all-to-all: which experts each goes to, where those are, and what that moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simdeep.cost.moe import HopCopies, PairTraffic, from_dispatches
from simdeep.errors import InputError, Problem
from simdeep.network.setting import TRACE_DRAWS, Setting
from simdeep.program.placement import Policy, Room, place
from simdeep.program.routing import (
    Counts,
    Dispatches,
    Placement,
    explicit,
    gate_tokens,
    point_to_point,
    read_trace,
)
from simdeep.program.routing.dispatches import from_counts
from simdeep.program.routing.gate import group_limit
from simdeep.program.routing.kernels import F64, I16, I32
from simdeep.spec.yamlio import load_document

MAX_TOKENS = 1 << 20
"""Tokens of a group that are drawn; of more an equal share of every rank's stands for all."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One dispatch: experts [tokens, topk] and source rank [tokens]; each counts `scale` times."""

    experts: I16
    source: I32
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """Placed experts and what the tokens of every draw make the GPUs move.

    `pairs` are the messages of the low-latency kernels, None in mode normal.
    """

    placement: Placement
    dispatches: Dispatches
    pairs: PairTraffic | None

    @property
    def copies(self) -> HopCopies:
        """Copies over each hop of the high-throughput kernels."""
        return from_dispatches(self.dispatches)

    @property
    def gpu_load(self) -> F64:
        """(token, expert) pairs that each GPU's experts get, [draws, ranks]."""
        place = self.placement
        load = np.zeros((place.ranks, self.dispatches.draws))
        np.add.at(load, place.slot_rank, self.dispatches.slot_tokens.T)
        return np.ascontiguousarray(load.T)

    @property
    def max_over_mean_load(self) -> float:
        """Busiest over mean GPU by (token, expert) pairs; mean over draws."""
        load = self.gpu_load
        return float((load.max(axis=1) / load.mean(axis=1)).mean())

    @property
    def nodes_per_token(self) -> float:
        """Nodes that a token goes to, its own included; mean over tokens and draws."""
        return float((self.dispatches.landed.sum(axis=(1, 2)) / self._sent).mean())

    @property
    def gpus_per_token(self) -> float:
        """GPUs that a token goes to; mean over tokens and draws."""
        return float((self.dispatches.forwarded.sum(axis=(1, 2)) / self._sent).mean())

    @property
    def _sent(self) -> F64:
        return np.asarray(self.dispatches.tokens.sum(axis=1))


def draw_tokens(setting: Setting, max_tokens: int = MAX_TOKENS) -> tuple[Tokens, ...]:
    """The tokens of every draw, from the gate or from the trace."""
    if isinstance(setting.routing, Path):
        return _replayed(setting, setting.routing)
    every = -(-setting.tokens * setting.ep // max_tokens)
    sample = max(1, round(setting.tokens / every))
    return tuple(
        Tokens(
            *gate_tokens(setting.gate, setting.ep, sample, setting.routing, setting.seed, draw),
            setting.tokens / sample,
        )
        for draw in range(setting.draws or 1)
    )


def route_tokens(setting: Setting, tokens: tuple[Tokens, ...]) -> Routed:
    """Place the experts and count what the tokens move."""
    placement = place_experts(setting, tokens)
    counts = [Counts(placement) for _ in tokens]
    for count, drawn in zip(counts, tokens, strict=True):
        count.add(drawn.experts, drawn.source)
    scale = np.array([drawn.scale for drawn in tokens])
    sent = np.stack([np.bincount(t.source, minlength=setting.ep) for t in tokens])
    dispatches = from_counts(counts, sent * scale[:, None], scale)
    if setting.mode == "normal":
        return Routed(placement, dispatches, None)
    messages = [point_to_point(t.experts, t.source, placement).rows * t.scale for t in tokens]
    return Routed(placement, dispatches, PairTraffic(setting.per_node, np.stack(messages)))


def place_experts(setting: Setting, tokens: tuple[Tokens, ...]) -> Placement:
    """Experts and replicas on the group's GPUs, for the loads that these tokens make."""
    gate = setting.gate
    if isinstance(setting.placement, Path):
        return _placed_by_file(setting, setting.placement)
    slots = gate.experts + setting.redundant
    if slots % setting.ep:
        fits = -gate.experts % setting.ep
        message = (
            f"{gate.experts} experts and {setting.redundant} replicas do not divide over "
            f"{setting.ep} GPUs; redundant {fits} does"
        )
        raise InputError([Problem("", "redundant", message)])
    limited = group_limit(gate)[0]
    room = Room(setting.ep, setting.per_node, slots // setting.ep, limited)
    if setting.placement == "contiguous":
        if setting.redundant:
            message = f"is {setting.redundant}, but contiguous experts have no replicas; take eplb"
            raise InputError([Problem("", "redundant", message)])
        policy: Policy = "contiguous"
    elif setting.placement == "eplb":
        policy = "eplb"
    else:
        policy = "search-hierarchical" if room.hierarchical else "search-global"
    load = sum(np.bincount(t.experts.ravel(), minlength=gate.experts) for t in tokens)
    return place(policy, load, room)


def _placed_by_file(setting: Setting, path: Path) -> Placement:
    """A YAML or JSON file with `ranks`: the experts of each rank."""
    data = load_document(path).data
    lists = data.get("ranks") if isinstance(data, dict) else None

    def refuse(message: str) -> InputError:
        return InputError([Problem(str(path), "ranks", message)])

    if not isinstance(lists, list) or not all(isinstance(r, list) for r in lists):
        raise refuse("must be a list with a list of experts for each rank")
    if len(lists) != setting.ep:
        raise refuse(f"places experts on {len(lists)} ranks; the group has {setting.ep}")
    ranks_of: list[list[int]] = [[] for _ in range(setting.gate.experts)]
    for rank, experts in enumerate(lists):
        for expert in experts:
            if type(expert) is not int or not 0 <= expert < len(ranks_of):
                known = f"experts are 0 to {len(ranks_of) - 1}"
                raise refuse(f"rank {rank} is given expert {expert!r}; {known}")
            ranks_of[expert].append(rank)
    missing = [e for e, ranks in enumerate(ranks_of) if not ranks]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise refuse(f"expert {missing[0]}{others} of {len(ranks_of)} is not placed on any rank")
    return explicit(ranks_of, setting.ep, setting.per_node)


def _replayed(setting: Setting, path: Path) -> tuple[Tokens, ...]:
    trace = read_trace(path, setting.gate.experts)
    if trace.topk != setting.gate.topk:
        message = f"tokens have {trace.topk} experts; {setting.model} takes {setting.gate.topk}"
        raise InputError([Problem(str(path), "experts", message)])
    dispatches = list(trace.dispatches(setting.ep))
    wanted = min(len(dispatches), setting.draws or TRACE_DRAWS)
    chosen = np.arange(wanted) * len(dispatches) // wanted
    return tuple(
        Tokens(experts, source, setting.tokens * setting.ep / len(source))
        for _, _, experts, source in (dispatches[i] for i in chosen)
    )
