"""Turns an unmodified Hugging Face `config.json` into a `Model`.

Keys that set a shape must be there, except those whose absence means a fixed value in the
configuration class of `transformers` (or of the model's own repository); those defaults are given
at the place of use. Keys that do not change shapes (dropout, token ids, RoPE scaling, ...) are not
read. All problems of a file are reported together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from simdeep.errors import InputError
from simdeep.spec.arch import DenseFfn, Ffn, Gqa, Layer, Mla, Model, MoeFfn
from simdeep.spec.fields import Fields
from simdeep.spec.jsonio import load_json
from simdeep.spec.resources import nearest
from simdeep.spec.yamlio import Document

MAX_LAYERS = 10_000
MAX_EXPERTS = 100_000

FfnOf = Callable[[int], Ffn]


def parse_model(path: Path, name: str) -> Model:
    """The model a `config.json` describes, or an `InputError` with every problem found."""
    return read_model(load_json(path), name)


def read_model(doc: Document, name: str) -> Model:
    """As `parse_model`, of a configuration already read."""
    f = Fields(doc)
    if not isinstance(doc.data, dict):
        f.add("", f"{type(doc.data).__name__}, must be a JSON object of configuration keys")
        raise InputError(f.problems)
    architecture = _architecture(f)
    if f.problems:
        raise InputError(f.problems)
    model = ARCHITECTURES[architecture](f, name, architecture)
    if f.problems:
        raise InputError(f.problems)
    return model


def _architecture(f: Fields) -> str:
    """The model class: first of `architectures`, else the one of `model_type`."""
    stated = f.data.get("architectures")
    if stated is None:
        model_type = f.data.get("model_type")
        if isinstance(model_type, str) and model_type in MODEL_TYPES:
            return MODEL_TYPES[model_type]
        f.add(
            "architectures",
            f"missing, must be a list of one of {', '.join(ARCHITECTURES)}",
        )
        return ""
    if not isinstance(stated, list) or len(stated) != 1 or not isinstance(stated[0], str):
        f.add("architectures", f"{stated!r}, must be a list of one model class name")
        return ""
    if stated[0] not in ARCHITECTURES:
        near = nearest(stated[0], tuple(ARCHITECTURES), cutoff=0.8)
        hint = f"did you mean {near!r}? supported" if near else "supported"
        f.add(
            "architectures",
            f"{stated[0]!r}, unsupported architecture; {hint}: {', '.join(ARCHITECTURES)}",
        )
    return stated[0]


def _gqa(f: Fields, hidden: int, *, qkv_bias: bool, out_bias: bool, qk_norm: bool) -> Gqa:
    heads = f.integer("num_attention_heads")
    kv_heads = f.integer("num_key_value_heads", default=heads)
    f.check(
        heads % kv_heads == 0,
        "num_key_value_heads",
        "num_attention_heads",
        rule=f"must divide num_attention_heads ({heads})",
    )
    if f.has("head_dim"):
        head_dim = f.integer("head_dim")
    else:
        head_dim = _even_split(f, "hidden_size", hidden, "num_attention_heads", heads)
    return Gqa(heads, kv_heads, head_dim, qkv_bias=qkv_bias, out_bias=out_bias, qk_norm=qk_norm)


def _even_split(f: Fields, size_key: str, size: int, heads_key: str, heads: int) -> int:
    rule = f"must be divisible by {heads_key} ({heads})"
    f.check(size % heads == 0, size_key, heads_key, rule=rule)
    return max(1, size // heads)


def _mla(f: Fields) -> Mla:
    q_rank = None if f.data.get("q_lora_rank", 0) is None else f.integer("q_lora_rank")
    attention = Mla(
        heads=f.integer("num_attention_heads"),
        q_lora_rank=q_rank,
        kv_lora_rank=f.integer("kv_lora_rank"),
        nope_dim=f.integer("qk_nope_head_dim"),
        rope_dim=f.integer("qk_rope_head_dim"),
        v_dim=f.integer("v_head_dim"),
        bias=f.flag("attention_bias", default=False),
    )
    even = "must be even: rotary positions turn pairs of values"
    f.check(attention.rope_dim % 2 == 0, "qk_rope_head_dim", rule=even)
    return attention


def _refuse_sliding_window(f: Fields, *, used: bool) -> None:
    """Windowed attention has other FLOPs and another KV cache than full attention."""
    window = f.integer("sliding_window", default=0, low=0)
    if used and window:
        f.check(False, "sliding_window", rule="must be null: only full attention is modelled")


def _decoder(
    f: Fields,
    name: str,
    architecture: str,
    attention: Callable[[int], Gqa | Mla],
    ffn_of: FfnOf,
    mtp: int = 0,
) -> Model:
    """A RoPE and RMSNorm decoder; `ffn_of` gives the feed-forward part of a layer index."""
    hidden = f.integer("hidden_size")
    n_layers = f.integer("num_hidden_layers", high=MAX_LAYERS)
    layers = tuple(Layer(i, ffn_of(i)) for i in range(n_layers + mtp))
    return Model(
        name=name,
        architecture=architecture,
        hidden=hidden,
        vocab=f.integer("vocab_size"),
        attention=attention(hidden),
        layers=layers[:n_layers],
        mtp=layers[n_layers:],
        tied=f.flag("tie_word_embeddings", default=False),
    )


def _nemotron(f: Fields, name: str, architecture: str) -> Model:
    """Squared ReLU, not gated; layer norms."""
    ffn = DenseFfn(f.integer("intermediate_size"), gated=False)

    def attention(hidden: int) -> Gqa:
        return _gqa(f, hidden, qkv_bias=False, out_bias=False, qk_norm=False)

    return _decoder(f, name, architecture, attention, lambda _: ffn)


def _gpt_oss(f: Fields, name: str, architecture: str) -> Model:
    """Every other layer sees only a window of the sequence; biases everywhere."""
    moe = _moe(f, "num_local_experts", f.integer("intermediate_size"))
    window = f.integer("sliding_window")

    def attention(hidden: int) -> Gqa:
        plain = _gqa(f, hidden, qkv_bias=True, out_bias=True, qk_norm=False)
        return replace(plain, window=window, windowed=0.5)

    return _decoder(f, name, architecture, attention, lambda _: moe)


def _llama(f: Fields, name: str, architecture: str) -> Model:
    bias = f.flag("attention_bias", default=False)
    ffn = DenseFfn(f.integer("intermediate_size"), bias=f.flag("mlp_bias", default=False))

    def attention(hidden: int) -> Gqa:
        return _gqa(f, hidden, qkv_bias=bias, out_bias=bias, qk_norm=False)

    return _decoder(f, name, architecture, attention, lambda _: ffn)


def _qwen2(f: Fields, name: str, architecture: str) -> Model:
    _refuse_sliding_window(f, used=f.flag("use_sliding_window", default=False))
    ffn = DenseFfn(f.integer("intermediate_size"))

    def attention(hidden: int) -> Gqa:
        # Qwen2 has biases on queries, keys and values that no key of its config states.
        return _gqa(f, hidden, qkv_bias=True, out_bias=False, qk_norm=False)

    return _decoder(f, name, architecture, attention, lambda _: ffn)


def _qwen3(f: Fields, name: str, architecture: str) -> Model:
    dense = DenseFfn(f.integer("intermediate_size"))
    return _qwen3_decoder(f, name, architecture, lambda _: dense)


def _qwen3_moe(f: Fields, name: str, architecture: str) -> Model:
    dense = DenseFfn(f.integer("intermediate_size"))
    moe = _moe(f, "num_experts", f.integer("moe_intermediate_size"))
    step = f.integer("decoder_sparse_step", default=1)
    dense_layers = f.integers("mlp_only_layers")

    def ffn_of(index: int) -> Ffn:
        return moe if index not in dense_layers and (index + 1) % step == 0 else dense

    return _qwen3_decoder(f, name, architecture, ffn_of)


def _qwen3_decoder(f: Fields, name: str, architecture: str, ffn_of: FfnOf) -> Model:
    _refuse_sliding_window(f, used=f.flag("use_sliding_window", default=False))
    bias = f.flag("attention_bias", default=False)

    def attention(hidden: int) -> Gqa:
        return _gqa(f, hidden, qkv_bias=bias, out_bias=bias, qk_norm=True)

    return _decoder(f, name, architecture, attention, ffn_of)


def _mixtral(f: Fields, name: str, architecture: str) -> Model:
    _refuse_sliding_window(f, used=True)
    moe = _moe(f, "num_local_experts", f.integer("intermediate_size"))

    def attention(hidden: int) -> Gqa:
        return _gqa(f, hidden, qkv_bias=False, out_bias=False, qk_norm=False)

    return _decoder(f, name, architecture, attention, lambda _: moe)


def _moe(f: Fields, experts_key: str, width: int) -> MoeFfn:
    """Experts without groups, shared experts or bias."""
    experts = f.integer(experts_key, high=MAX_EXPERTS)
    topk = f.integer("num_experts_per_tok")
    rule = f"must be at most {experts_key} ({experts})"
    f.check(topk <= experts, "num_experts_per_tok", experts_key, rule=rule)
    return MoeFfn(experts=experts, topk=topk, width=width)


def _deepseek_v2(f: Fields, name: str, architecture: str) -> Model:
    return _deepseek(f, name, architecture, "softmax", "greedy")


def _deepseek_v3(f: Fields, name: str, architecture: str) -> Model:
    return _deepseek(f, name, architecture, "sigmoid", "noaux_tc")


def _deepseek(f: Fields, name: str, architecture: str, scoring: str, method: str) -> Model:
    dense = DenseFfn(f.integer("intermediate_size"))
    moe = _deepseek_moe(f, scoring, method)
    freq = f.integer("moe_layer_freq", default=1)
    first = f.integer("first_k_dense_replace", low=0)
    n_layers = f.integer("num_hidden_layers", high=MAX_LAYERS)
    rule = f"must be at most num_hidden_layers ({n_layers})"
    f.check(first <= n_layers, "first_k_dense_replace", "num_hidden_layers", rule=rule)

    def ffn_of(index: int) -> Ffn:
        return moe if index >= first and index % freq == 0 else dense

    mtp = f.integer("num_nextn_predict_layers", default=0, low=0, high=MAX_LAYERS)
    return _decoder(f, name, architecture, lambda _: _mla(f), ffn_of, mtp)


def _deepseek_moe(f: Fields, scoring: str, method: str) -> MoeFfn:
    experts = f.integer("n_routed_experts", high=MAX_EXPERTS)
    topk = f.integer("num_experts_per_tok")
    width = f.integer("moe_intermediate_size")
    no_shared = "n_shared_experts" in f.data and not f.has("n_shared_experts")
    shared = 0 if no_shared else f.integer("n_shared_experts", low=0, high=MAX_EXPERTS)
    method = f.choice("topk_method", ("greedy", "group_limited_greedy", "noaux_tc"), default=method)
    # Greedy choice pays no heed to groups; the others must say how they group.
    grouped = method != "greedy"
    groups = f.integer("n_group") if grouped else 1
    topk_groups = f.integer("topk_group") if grouped else 1
    score: Literal["sigmoid", "softmax"] = "softmax"
    if f.choice("scoring_func", ("sigmoid", "softmax"), default=scoring) == "sigmoid":
        score = "sigmoid"

    at_most_experts = f"must be at most n_routed_experts ({experts})"
    f.check(topk <= experts, "num_experts_per_tok", "n_routed_experts", rule=at_most_experts)
    divides = f"must divide n_routed_experts ({experts})"
    f.check(experts % groups == 0, "n_group", "n_routed_experts", rule=divides)
    f.check(
        topk_groups <= groups, "topk_group", "n_group", rule=f"must be at most n_group ({groups})"
    )
    reachable = topk_groups * (experts // groups)
    f.check(
        topk <= reachable or topk > experts,
        "num_experts_per_tok",
        *("n_routed_experts", "n_group", "topk_group"),
        rule=f"must be at most the {reachable} experts of topk_group ({topk_groups}) groups",
    )
    return MoeFfn(
        experts=experts,
        topk=topk,
        width=width,
        shared_width=shared * width,
        n_groups=groups,
        topk_groups=topk_groups,
        scoring=score,
        has_bias=method == "noaux_tc",
        routed_scale=f.number("routed_scaling_factor", default=1.0),
    )


def _gpt2(f: Fields, name: str, architecture: str) -> Model:
    hidden = f.integer("n_embd")
    heads = f.integer("n_head")
    head_dim = _even_split(f, "n_embd", hidden, "n_head", heads)
    width = f.integer("n_inner", default=4 * hidden)
    n_layers = f.integer("n_layer", high=MAX_LAYERS)
    ffn = DenseFfn(width, gated=False, bias=True)
    return Model(
        name=name,
        architecture=architecture,
        hidden=hidden,
        vocab=f.integer("vocab_size"),
        attention=Gqa(heads, heads, head_dim, qkv_bias=True, out_bias=True),
        layers=tuple(Layer(i, ffn) for i in range(n_layers)),
        tied=f.flag("tie_word_embeddings", default=True),
        norm="layernorm",
        positions=f.integer("n_positions"),
    )


ARCHITECTURES: dict[str, Callable[[Fields, str, str], Model]] = {
    "DeepseekV2ForCausalLM": _deepseek_v2,
    "DeepseekV3ForCausalLM": _deepseek_v3,
    "GPT2LMHeadModel": _gpt2,
    "GptOssForCausalLM": _gpt_oss,
    "LlamaForCausalLM": _llama,
    "MixtralForCausalLM": _mixtral,
    "NemotronForCausalLM": _nemotron,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
}

MODEL_TYPES = {
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_oss": "GptOssForCausalLM",
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
