"""Parameter counts of a model, by layer and part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from simdeep.spec.arch import DenseFfn, Gqa, Layer, Mla, Model, MoeFfn


@dataclass(frozen=True, slots=True)
class LayerParams:
    """Parameters of one decoder layer.

    `attn` are the projections (with biases), `norm` all norms of the layer, those inside attention
    too; `router` the gate with its bias; `shared` all shared experts; `dense` the dense FFN.
    """

    attn: int
    norm: int
    router: int = 0
    shared: int = 0
    routed_per_expert: int = 0
    dense: int = 0
    experts: int = 0
    topk: int = 0

    @property
    def routed(self) -> int:
        """All routed experts."""
        return self.experts * self.routed_per_expert

    @property
    def without_routed(self) -> int:
        """What every rank of an expert-parallel group holds alike."""
        return self.attn + self.norm + self.router + self.shared + self.dense

    @property
    def total(self) -> int:
        """The whole layer."""
        return self.without_routed + self.routed

    @property
    def active(self) -> int:
        """What one token passes through: of the routed experts only its top k."""
        return self.without_routed + self.topk * self.routed_per_expert


@dataclass(frozen=True, slots=True)
class ParamCount:
    """Parameters of a model.

    `total` is the main model's, embedding and head included, MTP apart. `active` is what one token
    is multiplied with, as README_WEIGHTS.md of DeepSeek-V3 counts it: the top k of the routed
    experts, the head but not the looked-up embedding. `embedding` holds the learned positions too;
    `head` is 0 when tied. `mtp` are the MTP modules' own parameters (embedding and head are
    shared), `mtp_projection` the 2h -> h projections among them, `mtp_active` what a token passes
    through.
    """

    total: int
    active: int
    embedding: int
    head: int
    final_norm: int
    mtp: int
    mtp_active: int
    mtp_projection: int
    per_layer: tuple[LayerParams, ...]
    mtp_per_layer: tuple[LayerParams, ...]


@lru_cache(maxsize=64)
def params(model: Model) -> ParamCount:
    """Count the parameters of a model."""
    per_layer = tuple(layer_params(model, layer) for layer in model.layers)
    mtp_per_layer = tuple(layer_params(model, layer) for layer in model.mtp)
    embedding = (model.vocab + model.positions) * model.hidden
    head = 0 if model.tied else model.vocab * model.hidden
    final_norm = _norm(model, model.hidden)
    # A module norms the hidden state and the next token's embedding, projects both down to h, and
    # norms its output before the shared head.
    mtp_norms = 3 * final_norm * model.mtp_layers
    mtp_projection = 2 * model.hidden**2 * model.mtp_layers
    return ParamCount(
        total=embedding + head + final_norm + sum(p.total for p in per_layer),
        active=model.vocab * model.hidden + final_norm + sum(p.active for p in per_layer),
        embedding=embedding,
        head=head,
        final_norm=final_norm,
        mtp=mtp_norms + mtp_projection + sum(p.total for p in mtp_per_layer),
        mtp_active=mtp_norms + mtp_projection + sum(p.active for p in mtp_per_layer),
        mtp_projection=mtp_projection,
        per_layer=per_layer,
        mtp_per_layer=mtp_per_layer,
    )


def layer_params(model: Model, layer: Layer) -> LayerParams:
    """Count the parameters of one layer of a model."""
    h = model.hidden
    attn, inner_norm = _attention(model)
    norm = 2 * _norm(model, h) + inner_norm
    ffn = layer.ffn
    if isinstance(ffn, MoeFfn):
        return LayerParams(
            attn=attn,
            norm=norm,
            router=h * ffn.experts + (ffn.experts if ffn.has_bias else 0),
            shared=3 * h * ffn.shared_width,
            routed_per_expert=3 * h * ffn.width,
            experts=ffn.experts,
            topk=ffn.topk,
        )
    return LayerParams(attn=attn, norm=norm, dense=_dense(h, ffn))


def _dense(h: int, ffn: DenseFfn) -> int:
    up = 2 if ffn.gated else 1
    bias = up * ffn.width + h if ffn.bias else 0
    return (up + 1) * h * ffn.width + bias


def _norm(model: Model, size: int) -> int:
    """A scale, and for LayerNorm a shift, for each element."""
    return size if model.norm == "rmsnorm" else 2 * size


def _attention(model: Model) -> tuple[int, int]:
    """Parameters of the projections and of the norms inside attention."""
    h = model.hidden
    match model.attention:
        case Mla() as a:
            query = a.heads * a.qk_dim
            down_q = h * a.q_lora_rank + a.q_lora_rank * query if a.q_lora_rank else h * query
            down_kv = h * a.kv_values
            up_kv = a.kv_lora_rank * a.heads * (a.nope_dim + a.v_dim)
            out = a.heads * a.v_dim * h
            # As in the reference code, only the projections out of the hidden state and the
            # output projection have biases; a direct query projection has none.
            bias = (a.q_lora_rank or 0) + a.kv_values + h if a.bias else 0
            return down_q + down_kv + up_kv + out + bias, (a.q_lora_rank or 0) + a.kv_lora_rank
        case Gqa() as a:
            qkv = (a.heads + 2 * a.kv_heads) * a.head_dim
            bias = (qkv if a.qkv_bias else 0) + (h if a.out_bias else 0)
            norm = 2 * a.head_dim if a.qk_norm else 0
            return h * qkv + a.heads * a.head_dim * h + bias, norm
