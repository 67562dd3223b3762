"""Kernels of every stage of a layer, for one micro-batch on one GPU.

Latent attention (MLA) decodes with absorbed weights: queries go into the latent space, attention
runs over the compressed cache as over one key-value head, its output comes back by head. Prompts
have keys and values of every attended token computed from the latent, those of a cached prefix
too. Grouped-query attention is the usual one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from simdeep.program.workload.kernel import F
from simdeep.serving.deployment import BYTES, Unit
from simdeep.serving.iteration.experts import expert_rows
from simdeep.serving.iteration.work import Bench, Work
from simdeep.serving.kernels import GemmLayout, decode_attention, gqa_decode, prefill_attention
from simdeep.spec.model import DenseFfn, Mla

GATE_LAUNCHES: Final = 2
"""Kernels of the gate in serving engines: fused top-k and its bookkeeping (36 in training)."""
FP32: Final = 4.0
BF16: Final = 2.0
FP8_TILED: Final = 1.0 + 4.0 / 128


@dataclass(frozen=True, slots=True)
class Sizes:
    """One micro-batch of a DP rank: prompt tokens, decoding sequences, rows and KV of each."""

    prefill: float
    sequences: float
    rows_each: int
    context: float
    prompts: float = 1.0

    @property
    def rows(self) -> float:
        """Rows of the linear layers."""
        return self.prefill + self.decode_rows

    @property
    def decode_rows(self) -> float:
        """Rows of decoding sequences, drafted tokens included."""
        return self.sequences * self.rows_each


class Stages:
    """Makes the work of each stage."""

    def __init__(self, bench: Bench, sizes: Sizes, peers: int = 1):
        self.bench = bench
        self.peers = peers
        self.unit: Unit = bench.unit
        self.sizes = sizes
        model = self.unit.model
        self.hidden = model.hidden
        self.heads = model.n_heads / self.unit.tp
        self.rows = sizes.rows
        sharded = self.unit.sp or self.unit.moe is not None
        self.shard = self.rows / self.unit.tp if sharded else self.rows
        """Tokens this GPU has outside attention: its share where experts or SP split them."""
        self.before = self.rows / self.unit.tp if self.unit.sp else self.rows
        """Tokens that norm and down projections of attention work on."""

    def work(self, stage: str) -> Work:
        """The kernels of a stage by name, as in `STAGES`."""
        work = Work(self.bench)
        STAGES[stage](self, work)
        return work

    # -- attention -------------------------------------------------------------------------------
    def project(self, work: Work) -> None:
        """Norm (residual and cast fused), and what comes before a gather of sequence shards."""
        work.memory(self.before * self.hidden * BF16 * 4, "norm")
        attention = self.unit.model.attention
        if isinstance(attention, Mla):
            rank = attention.q_lora_rank or 0
            # One GEMM makes both latents, one kernel norms them.
            work.gemm(self.before, rank + attention.kv_values, self.hidden)
            work.memory(self.before * (rank + attention.kv_lora_rank) * BF16 * 2, "norm")

    def query(self, work: Work) -> None:
        """Queries, keys and values of the new tokens, and their writing into the cache."""
        attention, rows = self.unit.model.attention, self.rows
        kv = BYTES[self.unit.kv]
        if isinstance(attention, Mla):
            width = self.heads * attention.qk_dim
            work.linear(rows, width, attention.q_lora_rank or self.hidden)
            work.memory(rows * (self.heads + 1) * attention.rope_dim * BF16 * 2, "rope")
            work.memory(rows * attention.kv_values * (BF16 + kv), "copy")
            if self.sizes.decode_rows > 0:
                work.gemm(
                    self.sizes.decode_rows,
                    attention.kv_lora_rank,
                    attention.nope_dim,
                    groups=int(self.heads),
                    bf16=True,
                )
            if self.sizes.prefill > 0:
                with_prefix = self.sizes.prefill / (1.0 - self.unit.cached_share)
                up = self.heads * (attention.nope_dim + attention.v_dim)
                work.linear(with_prefix, up, attention.kv_lora_rank)
            return
        kv_heads = max(1.0, attention.kv_heads / self.unit.tp)
        width = (self.heads + 2 * kv_heads) * attention.head_dim
        work.linear(rows, width, self.hidden)
        if attention.qk_norm:
            work.memory(rows * (self.heads + kv_heads) * attention.head_dim * BF16 * 2, "norm")
        work.memory(rows * (self.heads + kv_heads) * attention.head_dim * BF16 * 2, "rope")
        work.memory(rows * 2 * kv_heads * attention.head_dim * (BF16 + kv), "copy")

    def core(self, work: Work) -> None:
        """Attention itself: of decoding rows over the cache, of prompts causal."""
        attention, sizes, bench = self.unit.model.attention, self.sizes, self.bench
        kv = BYTES[self.unit.kv]
        if sizes.sequences > 0:
            if isinstance(attention, Mla):
                found = decode_attention(
                    sizes.sequences,
                    sizes.context,
                    self.heads * sizes.rows_each,
                    attention.kv_values,
                    kv,
                    bench.kernels.decode,
                    bench.sms,
                )
            else:
                held = max(attention.kv_values / self.unit.tp, 2.0 * attention.head_dim)
                found = gqa_decode(sizes.sequences, sizes.context, held, kv, bench.kernels)
            work.add("attention", *found)
        if sizes.prefill > 0:
            busy, fixed = prefill_attention(
                sizes.prefill,
                sizes.context,
                self.heads,
                attention.qk_dim,
                attention.v_dim,
                bench.kernels.prefill,
                bench.sms,
            )
            work.add("attention", busy, 0.0, fixed)

    def output(self, work: Work) -> None:
        """Heads back from the latent space, and the output projection."""
        attention = self.unit.model.attention
        if isinstance(attention, Mla) and self.sizes.decode_rows > 0:
            work.gemm(
                self.sizes.decode_rows,
                attention.v_dim,
                attention.kv_lora_rank,
                groups=int(self.heads),
                bf16=True,
            )
        work.linear(self.rows, self.hidden, self.heads * attention.v_dim)

    # -- feed-forward ----------------------------------------------------------------------------
    def gate(self, work: Work) -> None:
        """Norm, router and top-k, and the send kernel of a low-latency dispatch."""
        work.memory(self.shard * self.hidden * BF16 * 4, "norm")
        moe = self.unit.moe
        if moe is None:
            return
        work.skinny(self.shard, moe.experts, self.hidden)
        work.memory(self.shard * moe.experts * FP32 * 4, "elementwise", launches=GATE_LAUNCHES)
        if self._low_latency:
            # Tokens cast into the send buffer, from where the NIC reads them.
            work.memory(self.shard * self.hidden * (BF16 + self._dispatched), "cast")

    def norm(self, work: Work) -> None:
        """The norm before a dense feed-forward layer."""
        work.memory(self.shard * self.hidden * BF16 * 4, "norm")

    def dense(self, work: Work) -> None:
        """A dense feed-forward layer: split like attention in a dense model, whole in others."""
        ffn = next(x.ffn for x in self.unit.model.layers if isinstance(x.ffn, DenseFfn))
        split = self.unit.tp if self.unit.moe is None else 1
        rows = self.rows if self.unit.moe is None else self.shard
        self._ffn(work, rows, ffn.width / split, gated=ffn.gated)

    def shared(self, work: Work) -> None:
        """The shared experts, where every GPU has them."""
        moe = self.unit.moe
        if moe is not None and moe.shared_width and not self.unit.shared_replicas:
            self._ffn(work, self.shard, moe.shared_width, gated=True)

    def _ffn(self, work: Work, rows: float, width: float, *, gated: bool) -> None:
        up = 2 if gated else 1
        work.linear(rows, up * width, self.hidden)
        work.memory(rows * width * BF16 * (up + 1), "swiglu")
        work.gemm(rows, self.hidden, width)

    def experts(self, work: Work) -> None:
        """Routed experts of the GPU with most rows, between dispatch and combine."""
        unit, moe = self.unit, self.unit.moe
        assert moe is not None
        slots = unit.slots_per_gpu
        rows: F = expert_rows(unit, self.shard, self.peers)
        low = self._low_latency
        arrive = self._dispatched
        if low:
            # The receive kernel packs what arrived; the masked GEMMs take it where it lies.
            work.memory(rows * self.hidden * 2 * arrive, "permute")
        elif unit.ep > 1:
            work.memory(rows * self.hidden * 2 * arrive, "permute")
        layout: GemmLayout = "masked" if low else "contiguous"
        each = rows / slots
        work.gemm(each, 2.0 * moe.width, self.hidden, groups=slots, layout=layout)
        work.memory(rows * moe.width * (2 * BF16 + arrive), "swiglu")
        work.gemm(each, self.hidden, moe.width, groups=slots, layout=layout)
        if low:
            # The combine's send kernel copies results into the buffer the NIC reads.
            work.memory(rows * self.hidden * 2 * BF16, "copy")
        else:
            work.memory(rows * self.hidden * BF16 * 2, "unpermute")

    def receive(self, work: Work) -> None:
        """The combine's receive kernel: weighted sum of a token's copies, and the shared output."""
        moe = self.unit.moe
        assert moe is not None
        if self._low_latency:
            copies = moe.topk + (1 if self.unit.shared_replicas else 0)
            work.memory(self.shard * self.hidden * BF16 * (copies + 1), "unpermute")
        if moe.shared_width and not self.unit.shared_replicas:
            work.memory(self.shard * self.hidden * BF16 * 3, "elementwise")

    # -- edges -----------------------------------------------------------------------------------
    def embed(self, work: Work) -> None:
        """Embedding rows looked up."""
        work.memory(self.shard * self.hidden * BF16 * 2, "embed")

    def head(self, work: Work) -> None:
        """Final norm, logits (BF16) of every row that wants a token, and sampling.

        Of all micro-batches at once: reading the vocabulary's weights twice would gain nothing.
        """
        rows = self.sizes.decode_rows + (self.sizes.prompts if self.sizes.prefill > 0 else 0.0)
        rows *= self.unit.microbatches
        vocab = self.unit.model.vocab / self.unit.tp
        work.memory(rows * self.hidden * BF16 * 4, "norm")
        work.gemm(rows, vocab, self.hidden, bf16=True)
        work.memory(rows * vocab * FP32 * 4, "elementwise", launches=4)

    def draft_in(self, work: Work) -> None:
        """Input of the draft module: embedding and hidden state, normed and projected."""
        rows = self.shard
        work.memory(rows * self.hidden * BF16 * 4, "norm", launches=2)
        work.linear(rows, self.hidden, 2.0 * self.hidden)

    @property
    def _low_latency(self) -> bool:
        return self.unit.ep > 1 and self.unit.mode == "low-latency"

    @property
    def _dispatched(self) -> float:
        return FP8_TILED if self.unit.dispatch == "fp8" else BF16


STAGES: Mapping[str, Callable[[Stages, Work], None]] = {
    "embed": Stages.embed,
    "project": Stages.project,
    "query": Stages.query,
    "core": Stages.core,
    "output": Stages.output,
    "gate": Stages.gate,
    "norm": Stages.norm,
    "dense": Stages.dense,
    "shared": Stages.shared,
    "experts": Stages.experts,
    "receive": Stages.receive,
    "head": Stages.head,
    "draft_in": Stages.draft_in,
}
"""Stages that compute."""
