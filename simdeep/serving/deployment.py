"""Units: the GPUs that run an iteration together, with all that decides how long it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simdeep.spec.model import Model, MoeFfn
from simdeep.spec.topology import Topology

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario
    from simdeep.spec.serve_schema import UnitFields

Role = Literal["prefill", "decode", "mixed"]
AllToAllMode = Literal["normal", "low-latency"]

GIB = 2.0**30

BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5}
"""Bytes of a value, scales apart."""


@dataclass(frozen=True)
class Unit:
    """One prefill, decode or mixed unit: tp*dp GPUs of a topology. Hashable, results are cached.

    `max_rows` None: as memory allows. `skew` is the experts' popularity (logits) and `stale` how
    far it has moved since replicas were placed; `prompt_spread` and `prompt_tokens` say how much
    experts' shares differ between sequences and how long those are; `cached_share` is that of
    prompts' tokens whose KV is there already. `compute` False prices kernels at nothing,
    `ideal_network` transfers at their payload over the NIC's bandwidth: both are bounds.
    """

    role: Role
    model: Model
    topology: Topology
    tp: int = 1
    sp: bool = False
    dp: int = 1
    ep: int = 1
    redundant: int = 0
    shared: Literal["replicated", "routed"] = "replicated"
    weights: str = "fp8"
    kv: str = "bf16"
    dispatch: str = "fp8"
    alltoall: Literal["auto", "normal", "low-latency"] = "auto"
    comm_sms: int = 20
    microbatches: int = 2
    cuda_graphs: bool = True
    mtp_tokens: int = 0
    mtp_acceptance: float = 0.85
    max_rows: int | None = None
    chunk_tokens: int = 16384
    max_context: int = 163840
    cached_share: float = 0.0
    reserved_bytes: float = 2 * GIB
    skew: float | str = 0.0
    stale: float = 0.0
    prompt_spread: float = 0.0
    prompt_tokens: float = 4096.0
    draws: int = 8
    seed: int = 0
    compute: bool = True
    ideal_network: bool = False
    engine: Literal["compiled", "reference"] = "compiled"

    def __hash__(self) -> int:
        # Models and topologies of one name are nearly always the same; equality looks closer.
        return hash((self.role, self.model.name, self.topology.name, self.tp, self.dp, self.ep))

    @property
    def gpus(self) -> int:
        """GPUs of the unit."""
        return self.tp * self.dp

    @property
    def nodes(self) -> int:
        """Nodes the unit takes, the last one perhaps in part."""
        return -(-self.gpus // self.topology.gpus_per_node)

    @property
    def moe(self) -> MoeFfn | None:
        """The model's experts (of its first such layer), or None."""
        return next((x.ffn for x in self.model.layers if isinstance(x.ffn, MoeFfn)), None)

    @property
    def mode(self) -> AllToAllMode:
        """Kernels of dispatch and combine; `auto` is low-latency where a unit only decodes."""
        if self.alltoall == "auto":
            return "low-latency" if self.role == "decode" else "normal"
        return self.alltoall

    @property
    def slots_per_gpu(self) -> int:
        """Expert slots of a GPU, replicas and shared experts dealt like routed ones included."""
        return self._slots[0]

    @property
    def shared_replicas(self) -> int:
        """Slots of an EP group that hold the shared experts, 0 where every GPU has them."""
        return self._slots[1]

    @property
    def _slots(self) -> tuple[int, int]:
        moe = self.moe
        if moe is None:
            return 0, 0
        routed = moe.experts + self.redundant
        if self.shared == "routed" and moe.shared_width:
            slots = routed // self.ep + 1
            return slots, slots * self.ep - routed
        return -(-routed // self.ep), 0

    @property
    def accepted_tokens(self) -> float:
        """Mean tokens a decoding sequence gains in a step: 1 + a + a^2 + ... of the drafted ones.

        The draft of token j+1 counts only if all before it were accepted (the usual chain).
        """
        return sum(self.mtp_acceptance**j for j in range(self.mtp_tokens + 1))

    @property
    def rows_per_sequence(self) -> int:
        """Rows a decoding sequence has in a step: its next token and the drafts to verify."""
        return 1 + self.mtp_tokens

    def with_batch(self, prefill_tokens: float, decode_rows: float) -> Unit:
        """The unit whose popularity is that of a batch (prompt tokens and sequences of a rank).

        An expert's share differs between sequences by `prompt_spread` of its mean (standard
        deviation), so between batches of n by 1/sqrt(n) of that, which adds to `stale`. Those
        of different lengths count as (sum of tokens)^2 / sum of squares.
        """
        tokens = prefill_tokens + decode_rows * self.rows_per_sequence
        if self.prompt_spread == 0 or self.ep == 1 or tokens == 0:
            return self
        each = max(1.0, min(self.prompt_tokens, prefill_tokens))
        squares = prefill_tokens * each + decode_rows * self.rows_per_sequence**2
        sequences = self.ep / self.microbatches * tokens**2 / squares
        moved = math.hypot(self.stale, self.prompt_spread / math.sqrt(sequences))
        return replace(self, stale=round(moved, 2), prompt_spread=0.0)

    def with_stale(self, stale: float) -> Unit:
        """The same unit whose placement is older: popularity has moved by `stale` (logits)."""
        return replace(self, stale=stale)


def unit_of(scenario: ServeScenario, role: Role, fields: UnitFields) -> Unit:
    """The unit that the fields of a role mean in a scenario."""
    gpus = fields.tp * fields.dp
    has_experts = scenario.model.kind == "moe"
    ep = (fields.ep or gpus) if has_experts else 1
    graphs = role == "decode" if fields.cuda_graphs is None else fields.cuda_graphs
    routing, simulate = scenario.routing, scenario.simulate
    return Unit(
        role=role,
        model=scenario.model,
        topology=scenario.topology,
        tp=fields.tp,
        sp=fields.sp,
        dp=fields.dp,
        ep=ep,
        redundant=fields.redundant,
        shared=fields.shared,
        weights=fields.weights,
        kv=fields.kv,
        dispatch=fields.dispatch,
        alltoall=fields.alltoall,
        comm_sms=fields.comm_sms,
        microbatches=fields.microbatches or (2 if ep > 1 else 1),
        cuda_graphs=graphs,
        mtp_tokens=fields.mtp.tokens,
        mtp_acceptance=fields.mtp.acceptance,
        max_rows=fields.max_rows,
        chunk_tokens=fields.chunk_tokens,
        max_context=scenario.max_context,
        cached_share=scenario.traffic.cached_share if scenario.traffic else 0.0,
        reserved_bytes=fields.reserved_gib * GIB,
        skew=0.0 if routing.skew is None else routing.skew,
        stale=routing.stale,
        prompt_spread=routing.prompt_spread,
        prompt_tokens=_prompt_tokens(scenario),
        draws=routing.draws,
        seed=simulate.seed,
        compute=simulate.compute,
        ideal_network=simulate.ideal_network,
        engine=simulate.engine,
    )


def _prompt_tokens(scenario: ServeScenario) -> float:
    """Mean new tokens of the prompt that a token is part of; long prompts have more tokens."""
    traffic = scenario.traffic
    if traffic is None:
        return float(scenario.iteration.context)
    law = traffic.input
    return law.mean * (1.0 + law.cv**2) * (1.0 - traffic.cached_share)


def units_of(scenario: ServeScenario) -> dict[Role, Unit]:
    """The unit of each role of a scenario's deployment; how many there are say its fields."""
    roles: tuple[Role, ...] = ("prefill", "decode", "mixed")
    fields = scenario.units
    return {role: unit_of(scenario, role, fields[role]) for role in roles if role in fields}
