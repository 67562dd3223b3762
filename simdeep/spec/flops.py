"""Training FLOPs and KV-cache bytes per token.

The convention is that of the DeepSeek-V3 hardware paper (arXiv 2505.09343): a multiply-add is two
operations; training is three forward passes (forward, input gradient, weight gradient), without
what recomputation adds; the products inside attention count, over the whole attention matrix
("non-causal") or half of it ("causal"); the head counts, the embedding look-up, norms, biases and
activation functions do not. Its figures leave the MTP module out: DeepSeek-V3 at 4,096 tokens is
250.4 GFLOP without it (published: 250) and 260.6 with it, and the 432 and 385 TFLOP/s published
with 272.80e9 tokens a day on 2,048 GPUs mean 280.2 and 249.7 GFLOP (here 281.1 and 250.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.spec.arch import DenseFfn, Layer, Mla, Model

TRAINING_PASSES = 3
"""Forward, input gradient and weight gradient, each as many FLOPs as the forward pass."""


@dataclass(frozen=True, slots=True)
class TokenFlops:
    """FLOPs for one token of training, by part; `mtp` covers the MTP modules whole."""

    projections: float
    attention: float
    ffn: float
    head: float
    mtp: float

    @property
    def total(self) -> float:
        """All parts."""
        return self.projections + self.attention + self.ffn + self.head + self.mtp


def flops_per_token(model: Model, seq_len: int, causal: bool, mtp: bool = False) -> float:
    """Training FLOPs for one token in a sequence of `seq_len`.

    `causal` counts half the attention matrix, else all of it; `mtp` adds the multi-token prediction
    modules, which published figures leave out.
    """
    return token_flops(model, seq_len, causal, mtp).total


def token_flops(model: Model, seq_len: int, causal: bool, mtp: bool = False) -> TokenFlops:
    """Training FLOPs for one token, by part; arguments as for `flops_per_token`."""
    scale = 2.0 * TRAINING_PASSES
    projections = attention_weights(model)
    core = attention_macs(model, seq_len, causal)
    head = model.hidden * model.vocab
    extra = 0.0
    if mtp:
        fixed = 2 * model.hidden**2 + head + projections + core
        extra = sum(fixed + ffn_weights(model, layer) for layer in model.mtp)
    return TokenFlops(
        projections=scale * model.n_layers * projections,
        attention=scale * model.n_layers * core,
        ffn=scale * sum(ffn_weights(model, layer) for layer in model.layers),
        head=scale * head,
        mtp=scale * extra,
    )


def attention_weights(model: Model) -> int:
    """Weights a token is multiplied with in one layer's attention projections."""
    a, h = model.attention, model.hidden
    out = a.heads * a.v_dim * h
    if isinstance(a, Mla):
        query = a.heads * a.qk_dim
        q = (h + query) * a.q_lora_rank if a.q_lora_rank else h * query
        return q + h * a.kv_values + a.kv_lora_rank * a.heads * (a.nope_dim + a.v_dim) + out
    return h * (a.heads + 2 * a.kv_heads) * a.head_dim + out


def attention_macs(model: Model, seq_len: int, causal: bool) -> float:
    """Multiply-adds of a token's QK and PV products in one layer, forward."""
    a = model.attention
    keys = seq_len / 2 if causal else seq_len
    return a.heads * (a.qk_dim + a.v_dim) * keys


def ffn_weights(model: Model, layer: Layer) -> int:
    """Weights a token is multiplied with in a layer's FFN: router, shared and top-k experts."""
    ffn, h = layer.ffn, model.hidden
    if isinstance(ffn, DenseFfn):
        return (3 if ffn.gated else 2) * h * ffn.width
    return h * ffn.experts + 3 * h * (ffn.topk * ffn.width + ffn.shared_width)


def kv_bytes_per_token(model: Model, bytes_per_value: float) -> float:
    """Bytes of KV cache a token takes in all layers of the main model."""
    return model.n_layers * model.attention.kv_values * bytes_per_value
