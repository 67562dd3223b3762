"""Unfolding: from one GPU for each pipeline rank to every GPU of the cluster.

Every task is repeated for the peers its GPU stood for. What peers do together (all-to-alls of an
expert-parallel group, collectives of tensor, context and data parallel groups) becomes a
rendezvous; routing cases differ by peer. All columns are tiled at once, no task is visited.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from simdeep.program.columns import Action, Program
from simdeep.program.lower.cases import Cases
from simdeep.program.lower.template import COMPONENTS
from simdeep.spec.layout import Layout

I64 = npt.NDArray[np.int64]

_ALONE, _EXPERT, _TENSOR, _CONTEXT, _STAGE = range(5)
_COMPANY = {
    "dispatch": _EXPERT,
    "redispatch": _EXPERT,
    "combine": _EXPERT,
    "tp_gather": _TENSOR,
    "tp_gather_lead": _TENSOR,
    "tp_scatter_tail": _TENSOR,
    "tp_scatter": _TENSOR,
    "tp_reduce": _TENSOR,
    "cp_ring": _CONTEXT,
    "fsdp_gather_attn": _STAGE,
    "fsdp_gather_mlp": _STAGE,
    "fsdp_scatter_attn": _STAGE,
    "fsdp_scatter_mlp": _STAGE,
    "grad_sync": _STAGE,
    "grad_norm": _STAGE,
    "param_sync": _STAGE,
}
"""Which peers run a component together; everything else a GPU does alone."""


def unfold(program: Program, layout: Layout, cases: Cases | None) -> Program:
    """The program of all GPUs; GPU e of pipeline rank p is rank p * stage_size + e.

    `cases` must hold a case for each peer (`expanded`); None for a model without experts.
    """
    peers = layout.stage_size
    n = program.n
    peer = np.repeat(np.arange(peers), n)
    same: dict[str, Any] = {
        name: np.tile(getattr(program, name), peers)
        for name in ("stream", "kind", "action", "component", "stage", "layer", "microbatch")
    }
    last = program.dep_ptr[-1]
    starts = (np.arange(peers)[:, None] * last + program.dep_ptr[None, :-1]).reshape(-1)
    deps = (np.arange(peers)[:, None] * n + program.dep_idx[None, :]).reshape(-1)
    to = np.tile(program.peer, peers)
    return replace(
        program,
        n_ranks=program.n_ranks * peers,
        **same,
        rank=(np.tile(program.rank, peers) * peers + peer).astype(np.int32),
        block=np.tile(program.block, peers),
        work=np.tile(program.work, peers),
        mem_take=np.tile(program.mem_take, peers),
        mem_free=np.tile(program.mem_free, peers),
        peer=np.where(to >= 0, to * peers + peer, -1).astype(np.int32),
        case=_cases(program, layout, cases),
        group=_groups(program, layout),
        dep_ptr=np.append(starts, last * peers),
        dep_idx=deps,
    )


def _cases(program: Program, layout: Layout, cases: Cases | None) -> npt.NDArray[np.int32]:
    """A draw for each expert-parallel group, layer and micro-batch; in it each peer's own case."""
    if cases is None:
        return np.tile(program.case, layout.stage_size)
    routed = (program.layer >= 0) & (program.microbatch >= 0)
    layer, microbatch = program.layer[routed], program.microbatch[routed]
    found = np.zeros((layout.stage_size, program.n), np.int32)
    for e in range(layout.stage_size):
        draw = cases.of[layer, microbatch, e // layout.ep]
        found[e, routed] = draw * layout.ep + e % layout.ep
    return found.reshape(-1)


def _groups(program: Program, layout: Layout) -> npt.NDArray[np.int32]:
    """Rendezvous ids: the folded task (or the group it was in) and which of its peer groups."""
    peers = layout.stage_size
    company = np.array([_COMPANY.get(name, _ALONE) for name in COMPONENTS])[program.component]
    # A send is alone even if its component has company.
    company = np.where(program.action == Action.P2P, _ALONE, company)
    company = np.where(program.group >= 0, _STAGE, company)
    # Groups the folded program has already are numbered behind those made of single tasks.
    first = np.where(program.group >= 0, program.n + program.group, np.arange(program.n))
    e = np.arange(peers)
    which = np.zeros((_STAGE + 1, peers), np.int64)
    which[_EXPERT] = e // layout.ep
    which[_TENSOR] = e // layout.tp
    which[_CONTEXT] = e // (layout.tp * layout.cp) * layout.tp + e % layout.tp
    found = np.empty((peers, program.n), np.int32)
    for peer in range(peers):
        found[peer] = np.where(company == _ALONE, -1, first * peers + which[company, peer])
    return found.reshape(-1)
