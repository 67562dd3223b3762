"""Models against published parameter counts, FLOPs and KV-cache sizes; bad files against rules."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.spec.model import (
    DenseFfn,
    Gqa,
    Mla,
    Model,
    MoeFfn,
    flops_per_token,
    kv_bytes_per_token,
    load_model,
    model_catalogue,
    params,
    token_flops,
)
from simdeep.spec.resources import resource_dir

# Qwen/Qwen2.5-72B: in the published tables, not in the catalogue.
QWEN_72B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "max_window_layers": 80,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}


def shipped(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        (resource_dir("models") / name / "config.json").read_text("utf-8")
    )
    return config


def write(folder: Path, content: dict[str, Any] | str | bytes) -> Path:
    path = folder / "config.json"
    if isinstance(content, dict):
        content = json.dumps(content, indent=1)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(path: Path | str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_model(path)
    return [str(p) for p in caught.value.problems]


# --- published figures ---------------------------------------------------------------------------

# Parameters in the published checkpoints (safetensors index), GPT-3 from arXiv 2005.14165.
TOTALS = {
    "deepseek-v3": 671_026_419_200,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "kimi-k2": 1_026_408_232_448,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "gpt3-175b": 174_604_259_328,
}


def test_catalogue_is_complete_and_sorted() -> None:
    own = ["tiny-moe", "dsv3-ablation-15.7b", "dsv3-ablation-228.7b"]
    assert model_catalogue() == tuple(sorted([*TOTALS, *own]))


@pytest.mark.parametrize(("name", "total"), TOTALS.items())
def test_total_parameters_equal_the_published_checkpoint(name: str, total: int) -> None:
    assert params(load_model(name)).total == total


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("deepseek-v3", 36.6e9),  # README_WEIGHTS.md, corrected: without embedding, with head
        ("deepseek-v2", 21e9),
        ("deepseek-v2-lite", 2.4e9),
        ("kimi-k2", 32e9),
        ("qwen3-235b-a22b", 22e9),
        ("mixtral-8x7b", 12.9e9),  # counts the embedding too
        ("llama-3.1-70b", 70.6e9),
    ],
)
def test_active_parameters_are_near_the_published(name: str, published: float) -> None:
    assert params(load_model(name)).active == pytest.approx(published, rel=0.022)


def test_v3_active_parameters_to_the_last_one() -> None:
    count = params(load_model("deepseek-v3"))
    # 37,552,282,624 with the embedding and without the routing biases, as others count it.
    assert count.active + count.embedding - 58 * 256 == 37_552_282_624


def test_v3_mtp_module() -> None:
    count = params(load_model("deepseek-v3"))
    # The checkpoint holds the main model, the module, and its copies of embedding and head.
    assert count.total + count.mtp + count.embedding + count.head == 684_489_845_504
    # README_WEIGHTS.md: 11.5B unique, 2.4B active with embedding and head; both leave out the
    # 0.1B of the projection.
    assert count.mtp - count.mtp_projection == pytest.approx(11.5e9, rel=0.001)
    active = count.mtp_active - count.mtp_projection + count.embedding + count.head
    assert active == pytest.approx(2.4e9, rel=0.02)
    assert count.embedding == count.head == pytest.approx(0.9e9, rel=0.03)


def qwen_72b(tmp_path: Path) -> Model:
    return load_model(write(tmp_path, QWEN_72B))


def test_qwen_72b_parameters(tmp_path: Path) -> None:
    assert params(qwen_72b(tmp_path)).total == 72_706_203_648


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        # arXiv 2505.09343 table 2, GFLOP per training token at 4,096, causal.
        ("deepseek-v3", 250, 0.01),
        ("deepseek-v2", 155, 0.01),
        ("llama-3.1-405b", 2448, 0.011),
    ],
)
def test_training_flops_equal_the_published(name: str, published: int, tolerance: float) -> None:
    flops = flops_per_token(load_model(name), 4096, causal=True)
    assert flops / 1e9 == pytest.approx(published, rel=tolerance)


def test_qwen_72b_flops_are_above_the_published(tmp_path: Path) -> None:
    # The same table has 394 for "Qwen-72B dense", less than six times the weights of its layers
    # alone (421), so no convention that fits the other rows gives it.
    flops = flops_per_token(qwen_72b(tmp_path), 4096, causal=True)
    assert flops / 1e9 == pytest.approx(445, rel=0.01)


@pytest.mark.parametrize(("causal", "tflops"), [(True, 385), (False, 432)])
def test_v3_flops_agree_with_the_published_mfu(causal: bool, tflops: float) -> None:
    # arXiv 2505.09343 table 4: TFLOP/s per GPU at 272.80e9 tokens a day on 2,048 GPUs.
    tokens_per_gpu_second = 272.80e9 / 86400 / 2048
    flops = flops_per_token(load_model("deepseek-v3"), 4096, causal)
    assert flops * tokens_per_gpu_second / 1e12 == pytest.approx(tflops, rel=0.005)


def test_published_flops_leave_the_mtp_module_out() -> None:
    v3 = load_model("deepseek-v3")
    with_mtp = flops_per_token(v3, 4096, causal=True, mtp=True)
    assert with_mtp / 1e9 == pytest.approx(260.6, rel=0.001)
    assert abs(with_mtp / 250e9 - 1) > 0.04


@pytest.mark.parametrize(
    ("name", "kilobytes"), [("deepseek-v3", 70.272), ("llama-3.1-405b", 516.096)]
)
def test_kv_bytes_equal_the_published(name: str, kilobytes: float) -> None:
    # arXiv 2505.09343 table 1, BF16.
    assert kv_bytes_per_token(load_model(name), 2) == kilobytes * 1000


def test_kv_bytes_of_qwen_72b(tmp_path: Path) -> None:
    assert kv_bytes_per_token(qwen_72b(tmp_path), 2) == 327_680


# --- structure -----------------------------------------------------------------------------------


def test_v3_structure() -> None:
    v3 = load_model("deepseek-v3")
    assert (v3.kind, v3.hidden, v3.n_layers, v3.n_heads, v3.vocab) == ("moe", 7168, 61, 128, 129280)
    assert v3.attention == Mla(128, 1536, 512, 128, 64, 128)
    assert [layer.index for layer in v3.layers if not layer.is_moe] == [0, 1, 2]
    assert v3.layers[0].ffn == DenseFfn(18432)
    assert v3.layers[3].ffn == MoeFfn(256, 8, 2048, 2048, 8, 4, "sigmoid", True, 2.5)
    assert v3.mtp_layers == 1
    assert v3.mtp[0].index == 61
    assert v3.mtp[0].ffn == v3.layers[60].ffn


def test_other_structures() -> None:
    lite = load_model("deepseek-v2-lite")
    assert lite.attention == Mla(16, None, 512, 128, 64, 128)
    assert lite.layers[1].ffn == MoeFfn(64, 6, 1408, 2816, scoring="softmax")
    qwen = load_model("qwen3-235b-a22b")
    assert qwen.attention == Gqa(64, 4, 128, qk_norm=True)
    gpt = load_model("gpt3-175b")
    assert (gpt.kind, gpt.norm, gpt.positions, gpt.tied) == ("dense", "layernorm", 2048, True)
    assert gpt.layers[0].ffn == DenseFfn(4 * 12288, gated=False, bias=True)


def test_layer_parameters_add_up() -> None:
    count = params(load_model("deepseek-v3"))
    edges = count.embedding + count.head + count.final_norm
    assert edges + sum(p.total for p in count.per_layer) == count.total
    moe = count.per_layer[3]
    assert moe.routed_per_expert == moe.shared == 3 * 7168 * 2048
    assert moe.routed == 256 * moe.routed_per_expert
    assert moe.total - moe.active == (256 - 8) * moe.routed_per_expert


def test_models_are_frozen_equal_and_hashable() -> None:
    one, two = load_model("kimi-k2"), load_model("kimi-k2")
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(FrozenInstanceError):
        one.hidden = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(TOTALS))
def test_flops_follow_the_parameters(name: str) -> None:
    # At sequence length 0 only matmuls are left: six FLOPs for each weight that is no norm or bias.
    model = load_model(name)
    flops = flops_per_token(model, 0, causal=True)
    assert flops == pytest.approx(6 * params(model).active, rel=2e-4)
    parts = token_flops(model, 4096, causal=True)
    half = token_flops(model, 2048, causal=False)
    assert parts == half


# --- loading -------------------------------------------------------------------------------------


def test_loads_by_folder_and_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    write(folder, shipped("llama-3.1-8b"))
    by_folder = load_model(folder)
    assert by_folder.name == "my-model"
    assert by_folder == load_model(folder / "config.json") == load_model("my-model", tmp_path)
    other = folder / "eight.json"
    other.write_text(json.dumps(shipped("llama-3.1-8b")))
    assert load_model(other).name == "eight"
    assert load_model(other).layers == load_model("llama-3.1-8b").layers


def test_model_type_stands_in_for_missing_architectures(tmp_path: Path) -> None:
    config = shipped("kimi-k2")
    del config["architectures"]
    assert load_model(write(tmp_path, config)).layers == load_model("kimi-k2").layers


def test_unknown_name_suggests_the_nearest() -> None:
    assert problems("deepseek-v4") == [
        "model 'deepseek-v4': no shipped model, no file; did you mean 'deepseek-v3'?"
    ]
    (listing,) = problems("zzz")
    assert "shipped: deepseek-v2, deepseek-v2-lite" in listing


@pytest.mark.parametrize("name", ["", " ", "no/such/config.json", "a\0b", "x" * 5000])
def test_what_is_no_file_is_refused(name: str) -> None:
    (message,) = problems(name)
    assert message.startswith(f"model {name!r}: no s")


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: is a folder without a config.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", r"config\.json: the file is empty"),
        ("\n \n", r"config\.json: the file is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "binary"),
        (b"{}\x00", "binary"),
        ("{\n,}", r"config\.json:2: not valid JSON"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ("[" * 30 + "]" * 30, "nested deeper than"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "larger than"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_broken_files_are_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    (message,) = problems(write(tmp_path, content))
    assert re.search(said, message)


def test_duplicates_and_non_finite_numbers_are_all_named(tmp_path: Path) -> None:
    text = (
        '{\n "a": NaN,\n "b": {"c": [1, -Infinity],\n  "c": 2},\n'
        ' "a": "\\"a\\": 1",\n "\\u0061": 1e999}'
    )
    path = write(tmp_path, text)
    assert problems(path) == [
        f"{path}:2: a: NaN, must be a finite number",
        f"{path}:3: b.c.1: -Infinity, must be a finite number",
        f"{path}:4: b.c: duplicate key; first on line 3",
        f"{path}:5: a: duplicate key; first on line 2",
        f"{path}:6: a: duplicate key; first on line 2",
        f"{path}:6: a: 1e999, must be a finite number",
    ]


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    config = shipped("deepseek-v3")
    config["hiden_size"] = config.pop("hidden_size")
    config |= {
        "num_hidden_layers": -61,
        "num_experts_per_tok": 300,
        "v_head_dim": 128.0,
        "kv_lora_rank": True,
        "vocab_size": "129280",
        "scoring_func": "sigmod",
        "tie_word_embeddings": 0,
        "routed_scaling_factor": -1,
    }
    path = write(tmp_path, config)
    lines = path.read_text().splitlines()

    def at(key: str) -> str:
        line = next(i for i, text in enumerate(lines, 1) if text.startswith(f' "{key}"'))
        return f"{path}:{line}: {key}: "

    whole = "must be a whole number from 1 to 2147483647"
    assert sorted(problems(path)) == sorted(
        [
            f"{path}: hidden_size: missing, {whole}; did you mean it by 'hiden_size'?",
            at("num_hidden_layers") + "-61, must be a whole number from 1 to 10000",
            at("num_experts_per_tok") + "300, must be at most n_routed_experts (256)",
            at("v_head_dim") + f"128.0, {whole}",
            at("kv_lora_rank") + f"True, {whole}",
            at("vocab_size") + f"'129280', {whole}",
            at("scoring_func")
            + "'sigmod', must be one of sigmoid, softmax; did you mean 'sigmoid'?",
            at("tie_word_embeddings") + "0, must be true or false",
            at("routed_scaling_factor") + "-1, must be a positive number",
        ]
    )


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama-3.1-8b", {"hidden_size": 4100}, r"hidden_size: 4100, must be divisible by num_att"),
        ("llama-3.1-8b", {"num_key_value_heads": 5}, r"must divide num_attention_heads \(32\)"),
        ("gpt3-175b", {"n_embd": 12289}, r"n_embd: 12289, must be divisible by n_head \(96\)"),
        ("gpt3-175b", {"n_layer": None}, "n_layer: null, must be a whole number"),
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, r"must be at most num_local_experts \(8\)"),
        ("mixtral-8x7b", {"sliding_window": 4096}, "only full attention is modelled"),
        ("qwen3-235b-a22b", {"mlp_only_layers": [-1]}, "must be a list of whole numbers"),
        ("deepseek-v3", {"n_group": 7}, r"n_group: 7, must divide n_routed_experts \(256\)"),
        ("deepseek-v3", {"topk_group": 9}, r"topk_group: 9, must be at most n_group \(8\)"),
        ("deepseek-v3", {"n_group": 256}, "must be at most the 4 experts of topk_group"),
        ("deepseek-v3", {"first_k_dense_replace": 62}, r"at most num_hidden_layers \(61\)"),
        ("deepseek-v3", {"qk_rope_head_dim": 63}, "must be even"),
        ("deepseek-v3", {"num_hidden_layers": 10**12}, "from 1 to 10000"),
        ("deepseek-v3", {"architectures": ["BertModel"]}, "unsupported architecture; supported: D"),
        ("deepseek-v3", {"architectures": ["LlamaForCasualLM"]}, "did you mean 'LlamaForCausalLM'"),
        ("deepseek-v3", {"architectures": []}, r"\[\], must be a list of one model class name"),
        ("deepseek-v3", {"architectures": None, "model_type": "t5"}, "architectures: missing"),
    ],
)
def test_rules(tmp_path: Path, name: str, change: dict[str, Any], said: str) -> None:
    (message,) = problems(write(tmp_path, shipped(name) | change))
    assert re.search(said, message)


@pytest.mark.parametrize("name", sorted(TOTALS))
def test_a_missing_key_is_named_or_has_a_default(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("missing")
    config = shipped(name)
    for key in config:
        path = write(folder, {k: v for k, v in config.items() if k != key})
        try:
            load_model(path)
        except InputError as error:
            assert [p.key for p in error.problems] == [key]  # noqa: PT017


SCALARS = st.sampled_from(
    [None, True, False, 0, 1, 2, 3, -1, 2**31, 10**30, 0.5, -0.0, 1e308, "", "1", 'a"\\', "ü"]
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.integers(0, 300)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(TOTALS)))
def test_any_value_of_any_key_loads_or_is_refused(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = shipped(name)
    for key in data.draw(st.sets(st.sampled_from(sorted(config)), max_size=4)):
        config[key] = data.draw(VALUES)
    path = write(tmp_path_factory.getbasetemp(), config)
    try:
        model = load_model(path)
    except InputError as error:
        assert error.problems  # noqa: PT017
    else:
        assert params(model).total > 0
        assert flops_per_token(model, 128, causal=True, mtp=True) > 0
