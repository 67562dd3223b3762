"""Multi-head latent attention: kernels of one layer's attention, order as in the H800 trace.

Under tensor parallelism the heads are split; the down projections are held whole and work on the
sequence shard (Megatron's `duplicated` mode). Queries without a latent (`q_lora_rank` None) are
projected from the hidden state directly and never recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.program.workload.attention import Core, o_proj_dgrad, o_proj_forward
from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import (
    BF16,
    FP8_TILED,
    Linear,
    memory,
    norm,
    norm_bwd,
    recomputed,
)
from simdeep.program.workload.shape import MLA_UP, NORM, Plan
from simdeep.spec.model import Mla


@dataclass(frozen=True, slots=True, eq=False)
class MlaOps:
    """Kernels of MLA between the input norm and the output projection."""

    plan: Plan
    mla: Mla
    hidden: int

    @property
    def heads(self) -> float:
        """Heads of this rank."""
        return self.mla.heads / self.plan.shape.tp

    @property
    def core(self) -> Core:
        """Attention core: keys are materialised for each head."""
        qk_dim = self.mla.nope_dim + self.mla.rope_dim
        return Core(self.heads, self.heads, qk_dim, self.mla.v_dim)

    @property
    def q_down(self) -> Linear | None:
        """Hidden to query latent."""
        rank = self.mla.q_lora_rank
        return None if rank is None else self._linear("q_down", rank, self.hidden)

    @property
    def q_up(self) -> Linear:
        """Query latent (or hidden) to the heads' queries."""
        width = self.heads * self.core.qk_dim
        rank = self.mla.q_lora_rank
        if rank is None:
            return self._linear("q_proj", width, self.hidden)
        return self._linear("q_up", width, rank)

    @property
    def kv_down(self) -> Linear:
        """Hidden to key-value latent and the shared rotary key."""
        return self._linear("kv_down", self.mla.kv_lora_rank + self.mla.rope_dim, self.hidden)

    @property
    def kv_up(self) -> Linear:
        """Key-value latent to the heads' keys and values."""
        width = self.heads * (self.mla.nope_dim + self.mla.v_dim)
        return self._linear("kv_up", width, self.mla.kv_lora_rank)

    @property
    def o_proj(self) -> Linear:
        """Heads' outputs to hidden."""
        return self._linear("o_proj", self.hidden, self.heads * self.mla.v_dim)

    def forward(self) -> tuple[Kernel, ...]:
        """From the normed input to the scaled attention output."""
        shard = self.plan.shape.shard_tokens
        q_down = self.q_down
        down = q_down.forward(shard) if q_down else []
        return (
            *down,
            *self.kv_down.forward(shard),
            *self._latent_norms(),
            *self._up(),
            *self.core.forward(self.plan),
            *o_proj_forward(self.plan, self.o_proj),
            memory("attn_out_scale", "elementwise", shard * self.hidden * 2 * BF16),
        )

    def input_gradient(self) -> tuple[Kernel, ...]:
        """From the gradient of the attention output to that of the normed input."""
        plan, shape = self.plan, self.plan.shape
        tokens, shard = shape.tokens, shape.shard_tokens
        again: list[Kernel] = []
        if plan.again(NORM):
            again += recomputed(self._latent_norms(cut_rope=False))
        if plan.again(MLA_UP):
            again += recomputed(self._up(direct_query=False))
        q_down, q_up, kv_up = self.q_down, self.q_up, self.kv_up
        grads = [*q_up.dgrad(tokens), *self._key_gradients(), *kv_up.dgrad(tokens)]
        turns = [*kv_up.wgrad_grad(tokens), *kv_up.wgrad_input(tokens, read=self._latent_read)]
        turns += q_up.wgrad_grad(tokens)
        if q_down:
            turns += q_up.wgrad_input(tokens, read=self._latent_read)
        return (
            memory("attn_out_scale_bwd", "elementwise", shard * self.hidden * 2 * BF16),
            *o_proj_dgrad(plan, self.o_proj),
            *again,
            *self.core.backward(plan),
            self._rope("rope_q_bwd", tokens * self.heads),
            *grads,
            *turns,
            *self._down_gradients(),
        )

    def weight_gradient(self) -> tuple[Kernel, ...]:
        """All weight gradients of the projections."""
        tokens, shard = self.plan.shape.tokens, self.plan.shape.shard_tokens
        q_down = self.q_down
        return (
            *self.o_proj.wgrad(tokens),
            *self.kv_up.wgrad(tokens),
            *self.q_up.wgrad(tokens),
            *self.kv_down.wgrad(shard),
            *(q_down.wgrad(shard) if q_down else ()),
        )

    def _linear(self, name: str, n: float, k: float) -> Linear:
        return Linear.of(self.plan, name, n, k)

    @property
    def _latent_read(self) -> float:
        """Bytes a value of a latent the weight gradient starts from: fresh BF16 or kept FP8."""
        return BF16 if self.plan.again(NORM) else FP8_TILED

    def _latent_norms(self, *, cut_rope: bool = True) -> list[Kernel]:
        """Norms of the latents; the key-value latent and the rotary key are cut apart."""
        shard = self.plan.shape.shard_tokens
        rank, rope = self.mla.kv_lora_rank, self.mla.rope_dim
        q_rank = self.mla.q_lora_rank
        query = [norm("q_norm_fwd", shard, q_rank)] if q_rank else []
        return [
            *query,
            memory("kv_latent_copy", "copy", shard * rank * 2 * BF16),
            norm("kv_norm_fwd", shard, rank),
            *([memory("k_rope_copy", "copy", shard * rope * 2 * BF16)] if cut_rope else []),
        ]

    def _up(self, *, direct_query: bool = True) -> list[Kernel]:
        """Up projections, rotary embedding, and keys joined with the shared rotary part."""
        tokens = self.plan.shape.tokens
        per_head = tokens * self.heads * BF16
        queries: list[Kernel] = []
        if direct_query or self.mla.q_lora_rank is not None:
            queries = self.q_up.forward(tokens)
        rotate_q = [self._rope("rope_q", tokens * self.heads)] if queries else []
        return [
            *queries,
            *self.kv_up.forward(tokens),
            self._rope("rope_k", tokens),
            memory("k_nope_copy", "copy", per_head * self.mla.nope_dim * 2),
            memory("k_rope_widen", "copy", per_head * self.mla.rope_dim),
            *rotate_q,
        ]

    def _rope(self, name: str, rows: float) -> Kernel:
        return memory(name, "rope", rows * self.mla.rope_dim * 2 * BF16)

    def _key_gradients(self) -> list[Kernel]:
        """Rotary key gradient summed over heads; key and value gradients laid side by side."""
        tokens = self.plan.shape.tokens
        per_head = tokens * self.heads * BF16
        return [
            memory("k_rope_grad_sum", "elementwise", per_head * self.mla.rope_dim),
            self._rope("rope_k_bwd", tokens),
            memory("k_grad_copy", "copy", per_head * self.mla.nope_dim * 2),
            memory("v_grad_copy", "copy", per_head * self.mla.v_dim * 2),
        ]

    def _down_gradients(self) -> list[Kernel]:
        """Latent norms backward, then the down projections, which share their input."""
        shard = self.plan.shape.shard_tokens
        q_down, kv_down = self.q_down, self.kv_down
        kernels = [norm_bwd("kv_norm_bwd", shard, self.mla.kv_lora_rank)]
        if self.mla.q_lora_rank:
            kernels.append(norm_bwd("q_norm_bwd", shard, self.mla.q_lora_rank))
        kernels.append(memory("kv_grad_join", "copy", shard * kv_down.n * 7 * BF16, launches=5))
        if self.plan.again(NORM):
            kernels += recomputed([norm("input_norm_fwd", shard, self.hidden)])
        read = self._latent_read
        for linear in (kv_down, q_down):
            if linear is not None:
                kernels += linear.dgrad(shard)
                kernels += linear.wgrad_input(shard, read=read)
                kernels += linear.wgrad_grad(shard)
        if q_down is None:
            kernels += self.q_up.wgrad_input(self.plan.shape.tokens, read=read)
        add = shard * self.hidden * 3 * BF16
        return [*kernels, memory("input_grad_add", "elementwise", add)]
