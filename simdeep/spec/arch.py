"""A language model as layers: what each holds, without parameters, hardware or time.

Everything here is frozen and hashable, so derived figures can be cached by model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mla:
    """Multi-head latent attention (arXiv 2405.04434 sec 2.1): sizes in elements.

    Queries come from a latent of `q_lora_rank` (None: straight from the hidden state), keys and
    values from one of `kv_lora_rank`; `rope_dim` of each query-key head is rotary and its key part
    is shared by all heads.
    """

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    bias: bool = False

    @property
    def qk_dim(self) -> int:
        """Elements of one query or key head."""
        return self.nope_dim + self.rope_dim

    @property
    def kv_values(self) -> int:
        """Values kept for a token in one layer's KV cache: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.rope_dim


@dataclass(frozen=True, slots=True)
class Gqa:
    """Grouped-query attention; with `kv_heads == heads` it is multi-head attention.

    A share `windowed` of the layers sees only the last `window` tokens (gpt-oss: every other).
    """

    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    qk_norm: bool = False
    out_bias: bool = False
    window: int = 0
    windowed: float = 0.0

    @property
    def qk_dim(self) -> int:
        """Elements of one query or key head."""
        return self.head_dim

    @property
    def v_dim(self) -> int:
        """Elements of one value head."""
        return self.head_dim

    @property
    def kv_values(self) -> int:
        """Values kept for a token in one layer's KV cache: its keys and values."""
        return 2 * self.kv_heads * self.head_dim


Attention = Mla | Gqa


@dataclass(frozen=True, slots=True)
class DenseFfn:
    """A feed-forward layer of `width`; `gated` has three matrices (SwiGLU), else two."""

    width: int
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True)
class MoeFfn:
    """Routed experts of `width` and shared ones, all gated (SwiGLU).

    `shared_width` is that of all shared experts together (0: none). A token picks `topk` of
    `experts` out of the best `topk_groups` of `n_groups` groups; `has_bias` is the per-expert bias
    that steers the choice without entering the weight (arXiv 2412.19437 sec 2.1.2).
    """

    experts: int
    topk: int
    width: int
    shared_width: int = 0
    n_groups: int = 1
    topk_groups: int = 1
    scoring: Literal["sigmoid", "softmax"] = "softmax"
    has_bias: bool = False
    routed_scale: float = 1.0


Ffn = DenseFfn | MoeFfn


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: the model's attention and this feed-forward part; `index` from 0."""

    index: int
    ffn: Ffn

    @property
    def is_moe(self) -> bool:
        """Whether the feed-forward part routes tokens to experts."""
        return isinstance(self.ffn, MoeFfn)


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder-only transformer.

    `layers` are the main model's; `mtp` the layers of its multi-token prediction modules, indexed
    on from there, each behind two norms and a 2h -> h projection and sharing embedding and head.
    `positions` is the length of a learned position table, 0 with rotary positions. `tied`: the
    head is the embedding table.
    """

    name: str
    architecture: str
    hidden: int
    vocab: int
    attention: Attention
    layers: tuple[Layer, ...]
    mtp: tuple[Layer, ...] = ()
    tied: bool = False
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    positions: int = 0

    @property
    def kind(self) -> Literal["moe", "dense"]:
        """`moe` if any layer has experts."""
        return "moe" if any(layer.is_moe for layer in self.layers) else "dense"

    @property
    def n_layers(self) -> int:
        """Decoder layers of the main model, MTP modules apart."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """Query heads of each layer."""
        return self.attention.heads

    @property
    def mtp_layers(self) -> int:
        """Multi-token prediction modules, one decoder layer each."""
        return len(self.mtp)
