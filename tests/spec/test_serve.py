"""Serving scenarios: reading, defaults, `--set`, and every kind of bad input."""

import json

import pytest
from ruamel.yaml import YAML

from simdeep.errors import InputError
from simdeep.spec.scenario import load_scenario, load_training
from simdeep.spec.schema import scenario_schema
from simdeep.spec.serve import ServeScenario, context_length

SHIPPED = (
    "dsv3-prefill-ep32",
    "dsv3-decode-ep144",
    "dsv3-decode-ep320",
    "dsv3-serve-h800",
    "dsv3-decode-h100-12nodes",
    "llama70b-serve-h100",
    "qwen3-235b-serve-h200",
)


def problems(name: str, **sets: str) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(name, {key.replace("__", "."): value for key, value in sets.items()})
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_resolved_reads_back_as_the_same_scenario(name, tmp_path):
    loaded = load_scenario(name)
    assert isinstance(loaded, ServeScenario)
    file = tmp_path / f"{name}.yaml"
    with file.open("w") as out:
        YAML(typ="safe").dump(json.loads(json.dumps(loaded.resolved())), out)
    again = load_scenario(file)
    assert again.fingerprint == loaded.fingerprint
    assert again.resolved() == loaded.resolved()


def test_values_and_defaults():
    s = load_scenario(
        "dsv3-serve-h800", {"slo.ttft": "1500ms", "slo.tpot": "60ms", "traffic.rate": "6000/min"}
    )
    assert isinstance(s, ServeScenario)
    assert s.slo.ttft == pytest.approx(1.5)
    assert s.slo.tpot == pytest.approx(0.06)
    assert s.traffic is not None
    assert s.traffic.rate == pytest.approx(100)
    assert s.units["prefill"].units * 4 + s.units["decode"].units * 18 >= 278
    assert s.usd_per_gpu_hour == 2.0
    assert s.max_context == 163_840
    assert s.routing.skew is not None
    assert s.with_seed(7).simulate.seed == 7
    assert s.with_seed(7).fingerprint != s.fingerprint


def test_the_day_is_deepseeks():
    """Rates and lengths of the shipped day give the published totals."""
    s = load_scenario("dsv3-serve-h800")
    assert isinstance(s, ServeScenario)
    assert s.traffic is not None
    assert s.traffic.rate is not None
    requests = s.traffic.rate * 3600 * sum(s.traffic.by_hour)
    assert requests * s.traffic.input.mean == pytest.approx(608e9, rel=0.01)
    assert requests * s.traffic.output.mean == pytest.approx(168e9, rel=0.01)
    assert max(s.traffic.by_hour) == 1.0
    mean_kv = s.traffic.input.mean + s.traffic.output.mean
    assert mean_kv == pytest.approx(4989, rel=0.001)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"slo__tpot": "50"}, "50 has no unit; write it as in"),
        ({"slo__ttft": "-2s"}, "out of range"),
        ({"traffic__rate": "100"}, "100 has no unit; write a rate as in '100/s'"),
        ({"traffic__rate": "-5/s"}, "must be greater than zero"),
        ({"traffic__rate": "0/s"}, "must be greater than zero"),
        ({"traffic__rate": "nan/s"}, "must be greater than zero"),
        ({"traffic__rate": "5/week"}, "write a rate as in"),
        ({"traffic__input__mean": "200000"}, "the context is 163840 tokens"),
        ({"traffic__output__max": "163841"}, "the context is 163840 tokens"),
        ({"traffic__input__mean": "163000"}, "more than the context of 163840"),
        ({"traffic__max_context": "200000"}, "the model's context is 163840"),
        ({"traffic__input__max": "100"}, "must be at least the mean"),
        ({"traffic__cached_share": "1.5"}, "must be at most 0.99"),
        ({"traffic__by_hour": "[1, 0.5]"}, "has 2 shares; must have 24"),
        ({"traffic__arrival": "trace"}, "arrival trace needs a file"),
        ({"traffic__file": "none.csv"}, "no such file"),
        ({"deployment__decode__ep": "100"}, "must divide tp*dp = 1*144 = 144"),
        ({"deployment__decode__redundant": "5"}, "as redundant: 32 does"),
        ({"deployment__decode__dp": "12"}, "must be whole nodes of 8"),
        ({"deployment__decode__comm_sms": "132"}, "must be from 2 to 131"),
        ({"deployment__decode__shared": "routed", "deployment__decode__units": "900"}, "GPUs"),
        ({"deployment__prefill__weights": "int3"}, "must be one of fp8, bf16, fp4"),
        ({"deployment__mixed__dp": "8"}, "give mixed, or prefill and decode"),
        ({"deployment__decod__dp": "8"}, "did you mean decode?"),
        ({"autoscale": "{}", "traffic__by_hour": "[]"}, "by_hour is not given"),
    ],
)
def test_bad_input_says_what_is_wrong(sets, said):
    assert said in problems("dsv3-serve-h800", **sets)


def test_all_problems_at_once():
    text = problems("dsv3-serve-h800", slo__tpot="50", traffic__rate="-1/s", window__warmup="3")
    assert text.count("\n") == 2


def test_rules_of_models_without_experts_or_drafts():
    dense = {"deployment.mixed.ep": "2", "deployment.mixed.mtp.tokens": "1"}
    with pytest.raises(InputError) as caught:
        load_scenario("llama70b-serve-h100", dense)
    assert "has no experts" in str(caught.value)
    assert "no multi-token prediction module" in str(caught.value)
    assert "must divide the 8 GPUs" in problems("qwen3-235b-serve-h200", deployment__decode__tp="3")


def test_traffic_needs_units_of_both_kinds():
    text = problems("dsv3-decode-ep144", traffic__rate="5/s")
    assert "has no prefill units, which traffic needs" in text
    assert "has no units" in problems("dsv3-decode-ep144", deployment="{}")


def test_commands_for_training_refuse_serving():
    with pytest.raises(InputError, match="a training scenario is needed"):
        load_training("dsv3-serve-h800")
    assert load_training("toy-dense").kind == "train"


def test_schema_has_every_field_described():
    schema = scenario_schema()
    assert "ServeFields" in schema["$defs"]
    for name in ("UnitFields", "Traffic", "Slo", "Autoscale", "Window", "Deployment", "Mtp"):
        for key, field in schema["$defs"][name]["properties"].items():
            assert field.get("description"), f"{name}.{key}"


def test_context_lengths():
    assert context_length("deepseek-v3") == 163_840
    assert context_length("llama-3.1-70b") == 131_072
