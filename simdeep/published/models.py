"""A run's model as a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simdeep.published.cases import Case

Config = dict[str, Any]


def config_of(case: Case, vocab: int) -> Config:
    """The configuration that has the sizes a run states."""
    model = case.model
    if model.get("experts"):
        return _moe(model, vocab)
    if model.get("act") == "swiglu":
        return _llama(model, vocab)
    if model.get("act") == "squared_relu":
        return _nemotron(model, vocab)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": model["hidden"],
        "n_head": model["heads"],
        "n_inner": model["ffn"],
        "n_layer": model["layers"],
        "n_positions": case.seq_len,
        "vocab_size": vocab,
        "tie_word_embeddings": True,
    }


def _attention(model: Mapping[str, Any]) -> Config:
    return {
        "hidden_size": model["hidden"],
        "num_attention_heads": model["heads"],
        "num_key_value_heads": model["kv_heads"],
        "head_dim": model["head_dim"],
        "num_hidden_layers": model["layers"],
    }


def _llama(model: Mapping[str, Any], vocab: int) -> Config:
    return {
        "architectures": ["LlamaForCausalLM"],
        **_attention(model),
        "intermediate_size": model["ffn"],
        "vocab_size": vocab,
    }


def _nemotron(model: Mapping[str, Any], vocab: int) -> Config:
    return {
        "architectures": ["NemotronForCausalLM"],
        **_attention(model),
        "intermediate_size": model["ffn"],
        "vocab_size": vocab,
    }


def _moe(model: Mapping[str, Any], vocab: int) -> Config:
    if model.get("attention") == "MLA":
        return _deepseek(model, vocab)
    shared: Config = {
        **_attention(model),
        "num_experts_per_tok": model["topk"],
        "vocab_size": vocab,
    }
    if str(model.get("attention", "")).startswith("alternating sliding-window"):
        return shared | {
            "architectures": ["GptOssForCausalLM"],
            "num_local_experts": model["experts"],
            "intermediate_size": model["moe_ffn"],
            "sliding_window": 128,
        }
    return shared | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": model["experts"],
        "moe_intermediate_size": model["moe_ffn"],
        "intermediate_size": model.get("ffn") or model["moe_ffn"],
        "mlp_only_layers": [],
    }


def _deepseek(model: Mapping[str, Any], vocab: int) -> Config:
    groups = model.get("expert_groups")
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": model["hidden"],
        "num_attention_heads": model["heads"],
        "num_hidden_layers": model["layers"],
        "q_lora_rank": model["q_lora"],
        "kv_lora_rank": model["kv_lora"],
        "qk_nope_head_dim": model["qk_nope"],
        "qk_rope_head_dim": model["qk_rope"],
        "v_head_dim": model["v_head"],
        "intermediate_size": model["ffn"],
        "moe_intermediate_size": model["moe_ffn"],
        "n_routed_experts": model["experts"],
        "n_shared_experts": model["shared_experts"],
        "num_experts_per_tok": model["topk"],
        "first_k_dense_replace": model["dense_layers"],
        "topk_method": "noaux_tc" if groups else "greedy",
        "n_group": groups or 1,
        "topk_group": model.get("limited_groups") or 1,
        "num_nextn_predict_layers": model.get("mtp_depth") or 0,
        "vocab_size": vocab,
    }
