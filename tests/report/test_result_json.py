"""The figures a run is quoted by, against arithmetic done here."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.api import Result, simulate
from simdeep.contributions import Contribution
from simdeep.report.result_json import result_json, to_json
from simdeep.report.summary import headline, pair_figures, plain, seconds, short
from simdeep.spec.flops import flops_per_token
from simdeep.spec.scenario import load_scenario

SMALL = {"train.gbs": "16", "train.seq_len": "1024"}


@pytest.fixture(scope="module")
def result() -> Result:
    return simulate(load_scenario("toy-dense", SMALL))


@pytest.fixture(scope="module")
def document(result):
    return result_json(result, [Contribution("all", result.step_time_s, "everything")])


def test_throughput_and_cost(document):
    step, tokens, gpus = document["step_time_s"], 16 * 1024, 16
    assert document["tokens_per_step"] == tokens
    assert document["tokens_per_s"] == pytest.approx(tokens / step)
    assert document["tokens_per_s_per_gpu"] == pytest.approx(tokens / step / gpus)
    hours = 1e12 / tokens * step / 3600
    assert document["gpu_hours_per_ttoken"] == pytest.approx(hours * gpus)
    assert document["days_per_ttoken"] == pytest.approx(hours / 24)
    assert document["usd_per_ttoken"] == pytest.approx(hours * gpus * 1.0)
    assert document["run"] is None


def test_utilisation(result, document):
    model, gpu = result.scenario.model, result.scenario.topology.gpu
    for key, causal in (("", False), ("_causal", True)):
        flops = flops_per_token(model, 1024, causal=causal)
        per_gpu = flops * document["tokens_per_s_per_gpu"]
        assert document[f"tflops_per_gpu{key}"] == pytest.approx(per_gpu / 1e12)
        assert document[f"mfu{key}"] == pytest.approx(per_gpu / gpu.peak["bf16"])
    assert document["mfu_counts_mtp"] is False


def test_parts_of_every_rank_add_up_to_the_step(document):
    parts = np.array(list(document["parts_s"].values()))
    np.testing.assert_allclose(parts.sum(axis=0), document["step_time_s"], rtol=1e-12)
    path = sum(document["critical_path_s"].values())
    assert path == pytest.approx(document["step_time_s"])
    bubble = document["parts_s"]["bubble"]
    assert document["bubble_s"]["mean"] == pytest.approx(np.mean(bubble))
    assert document["bubble_s"]["max"] == max(bubble)


def test_memory_by_rank_adds_up(document):
    memory = document["memory"]
    for row in memory["by_rank"]:
        assert sum(row["parts_gib"].values()) == pytest.approx(row["peak_gib"])
        assert all(" " not in key for key in row["parts_gib"])
    assert memory["peak_gib"] == max(row["peak_gib"] for row in memory["by_rank"])
    assert memory["fits"] == (memory["peak_gib"] <= memory["capacity_gib"])


def test_text_is_json_with_sorted_keys(document):
    text = to_json(document)
    assert json.loads(text) == document
    assert text.endswith("}\n")
    top = [line.split('"')[1] for line in text.splitlines() if line.startswith('  "')]
    assert top == sorted(top)


def test_not_a_number_never_gets_out():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"x": math.nan})


def test_phases_of_a_pair_fill_the_block():
    result = simulate(load_scenario("dsv3-fb-pair-h800"))
    figures, document = pair_figures(result), result_json(result)
    compute = sum(sum(phase.by_layer_s.values()) for phase in figures.phases)
    exposed = document["exposed_comm_ms"] / 1e3
    bubble = sum(sum(document["parts_s"][name]) for name in ("bubble",))
    assert compute + exposed + bubble == pytest.approx(figures.total_s)
    # DeepSeek's profile orders the block so (profile-data, train.json).
    assert [p.name for p in figures.phases] == [
        "attn_F",
        "mlp_I",
        "mlp_W",
        "mlp_F",
        "attn_I",
        "attn_W",
    ]
    assert [p.name for p in figures.transfers] == [
        "combine_B",
        "dispatch_F",
        "dispatch_B",
        "combine_F",
    ]
    transfers = sum(
        sum(phase.by_layer_s.values()) + phase.setup_s * len(phase.by_layer_s)
        for phase in figures.transfers
    )
    assert transfers == pytest.approx(result.overlap.transfer_ns.sum() / 1e9)
    assert sorted(document["phases"]["mlp_I"]["by_layer_ms"]) == ["3", "4", "5", "6"]
    assert "4 layers" in headline(result)


def test_headline_says_whether_it_fits(result):
    assert ("it fits" in headline(result)) == result.memory.fits


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.651, "3.65"),
        (0.012345, "0.0123"),
        (999.6, "1,000"),
        (1234.5, "1,230"),
        (9.999, "10.0"),
        (-42.04, "-42.0"),
    ],
)
def test_plain_numbers(value, text):
    assert plain(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (179_432, "", "179 K"),
        (3.2e6, "token/s", "3.20 Mtoken/s"),
        (999_600, "", "1.00 M"),
        (42, "", "42.0"),
        (0, "", "0"),
        (5.6e15, "", "5,600 T"),
    ],
)
def test_short_numbers(value, unit, text):
    assert short(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (19.84, "19.8 s"), (0.1285, "128 ms"), (2.5e-6, "2.50 us"), (3e-9, "3.00 ns")],
)
def test_seconds(value, text):
    assert seconds(value) == text


@given(st.floats(1e-9, 1e15))
def test_numbers_read_back_to_three_digits(value):
    assert float(plain(value).replace(",", "")) == pytest.approx(value, rel=5.1e-3)
