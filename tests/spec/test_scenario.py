import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

import simdeep
from simdeep.errors import InputError
from simdeep.spec.resources import catalogue
from simdeep.spec.scenario import load_scenario
from simdeep.spec.schema import SCHEMAS


def reread(scenario, tmp_path):
    file = tmp_path / "resolved.yaml"
    file.write_text(json.dumps(scenario.resolved(), indent=1))
    return load_scenario(file)


def test_the_main_scenario_is_the_published_training_run():
    """arXiv 2412.19437: sections 3.1 to 3.3 (layout, precision) and 4.2 (batch, sequences)."""
    s = load_scenario("dsv3-train-h800")
    assert (s.kind, s.model.name, s.topology.gpus) == ("train", "deepseek-v3", 2048)
    degrees = (s.layout.pp, s.layout.ep, s.layout.dp, s.layout.tp, s.layout.edp, s.layout.zero)
    assert degrees == (16, 64, 128, 1, 2, 1)
    assert [len(stage.layers) for stage in s.layout.stages] == [4] * 15 + [1]
    first, last = s.layout.stages[0], s.layout.stages[-1]
    assert first.embedding
    assert not first.head
    assert (last.head, last.mtp, last.layers) == (True, True, (60,))
    assert s.microbatches == 120
    assert s.tokens_per_step == 15360 * 4096
    assert (s.train.schedule, s.train.precision, s.train.comm_sms) == ("dualpipe", "fp8", 20)
    assert s.train.recompute == ("norm", "mla_up", "swiglu")
    assert (s.usd_per_gpu_hour, s.goal.tokens) == (2.0, 14.8e12)
    assert s.routing.skew == s.resolved()["routing"]["skew"] == 0.072


def test_the_pair_scenario_is_part_of_the_cluster():
    s = load_scenario("dsv3-fb-pair-h800")
    assert (s.kind, s.layers, s.layout.n_ranks, s.layout.stages) == (
        "fb-pair",
        (3, 4, 5, 6),
        64,
        (),
    )
    assert (s.train.schedule, s.microbatches, s.train.mtp) == ("dualpipe", 1, False)
    assert s.routing.kind == "recorded"
    assert s.routing_file is not None
    assert s.routing_file.is_file()


def test_defaults_follow_from_model_and_topology():
    s = load_scenario("toy-dense")
    assert s.layout.dp == 2
    assert sum(len(stage.layers) for stage in s.layout.stages) == s.model.n_layers == 32
    assert s.usd_per_gpu_hour == s.topology.usd_per_gpu_hour
    resolved = s.resolved()
    assert resolved["layout"]["dp"] == 2
    assert sum(resolved["layout"]["stages"]) == 32
    assert resolved["train"]["dtypes"]["master"] == "fp32"
    assert resolved["price"] == {"usd_per_gpu_hour": s.topology.usd_per_gpu_hour}


def kind_of(path):
    return YAML(typ="safe", pure=True).load(path.read_text())["kind"]


@pytest.mark.parametrize(
    "name",
    sorted(n for n, f in catalogue("scenarios").items() if kind_of(f) in ("train", "fb-pair")),
)
def test_resolved_reads_back_to_the_same_scenario(name, tmp_path):
    scenario = load_scenario(name)
    again = reread(scenario, tmp_path)
    assert again.resolved() == scenario.resolved()
    assert again.fingerprint == scenario.fingerprint
    assert again.layout == scenario.layout
    assert list(again.resolved()) == list(scenario.resolved())


def test_fingerprint_hangs_on_values_not_on_spelling_or_place(tmp_path):
    base = load_scenario("dsv3-train-h800")
    same = load_scenario("dsv3-train-h800", {"layout.stages": json.dumps([4] * 15 + [1])})
    copy = tmp_path / "other-name.yaml"
    copy.write_bytes(catalogue("scenarios")["dsv3-train-h800"].read_bytes())
    assert load_scenario(copy).fingerprint == same.fingerprint == base.fingerprint
    for key, value in [("simulate.seed", "1"), ("train.gbs", "7680"), ("topology", "h800-2048")]:
        other = load_scenario("dsv3-train-h800", {key: value})
        assert (other.fingerprint == base.fingerprint) == (key == "topology")


def test_fingerprint_hangs_on_the_topology_files_content(tmp_path):
    text = catalogue("topologies")["h800-2048"].read_text()
    file = tmp_path / "h800-2048.yaml"
    file.write_text(text)
    same = load_scenario("dsv3-train-h800", {"topology": str(file)})
    file.write_text(text.replace("bandwidth: 50 GB/s", "bandwidth: 25 GB/s"))
    slower = load_scenario("dsv3-train-h800", {"topology": str(file)})
    assert same.fingerprint == load_scenario("dsv3-train-h800").fingerprint
    assert slower.fingerprint != same.fingerprint
    assert slower.topology.nic_bw == 25e9


def test_megatron_names_mean_the_short_ones(tmp_path):
    short = load_scenario("toy-dense")
    text = catalogue("scenarios")["toy-dense"].read_text()
    for name, long in [
        ("tp: 4", "tensor_model_parallel_size: 4"),
        ("pp: 2", "pipeline_model_parallel_size: 2"),
        ("sp: true", "sequence_parallel: true"),
        ("seq_len:", "seq_length:"),
        ("mbs:", "micro_batch_size:"),
        ("gbs:", "global_batch_size:"),
    ]:
        assert name in text
        text = text.replace(name, long)
    file = tmp_path / "megatron.yaml"
    file.write_text(text)
    assert load_scenario(file).fingerprint == short.fingerprint
    changed = load_scenario(file, {"train.global_batch_size": "64"})
    assert changed.fingerprint == load_scenario(file, {"train.gbs": "64"}).fingerprint
    assert changed.train.gbs == 64


def test_overrides_change_values_create_sections_and_carry_units():
    s = load_scenario(
        "toy-dense",
        {
            "train.recompute": "[swiglu, norm]",
            "price.usd_per_gpu_hour": "2.5 USD/h",
            "goal.tokens": "1e12",
            "train.dtypes.moments": "bf16",
        },
    )
    assert s.train.recompute == ("norm", "swiglu")
    assert (s.usd_per_gpu_hour, s.goal.tokens) == (2.5, 1e12)
    assert s.train.dtypes.moments == "bf16"
    one_item = {"layout.stages": "[16, 16]", "train.gbs": "64"}
    assert load_scenario("toy-dense", one_item).layout.stages[1].layers[0] == 16


def test_a_stage_of_a_list_can_be_set_by_position():
    s = load_scenario("dsv3-train-h800", {"layout.stages.0": "3", "layout.stages.15": "2"})
    assert [len(stage.layers) for stage in s.layout.stages] == [3, *[4] * 14, 2]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("none", ()),
        ("[]", ()),
        ("selective", ("selective",)),
        ("full", ("full",)),
        ("[full]", ("full",)),
        ("norm", ("norm",)),
        ("[selective, swiglu, norm, norm]", ("norm", "swiglu", "selective")),
    ],
)
def test_recompute_has_one_canonical_form(value, names, tmp_path):
    s = load_scenario("toy-dense", {"train.recompute": value})
    assert s.train.recompute == names
    assert reread(s, tmp_path).train.recompute == names


def test_paths_are_relative_to_the_file_in_files_and_to_the_shell_in_flags(tmp_path, monkeypatch):
    for name in ("beside", "shell"):
        (tmp_path / name).mkdir()
    config = catalogue("topologies")["toy-2x8"].read_text()
    (tmp_path / "beside" / "mine.yaml").write_text(config)
    (tmp_path / "shell" / "mine.yaml").write_text(config.replace("10 GB/s", "5 GB/s"))
    text = catalogue("scenarios")["toy-dense"].read_text().replace("toy-2x8", "mine.yaml")
    (tmp_path / "beside" / "scenario.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "shell")
    scenario = tmp_path / "beside" / "scenario.yaml"
    in_file = load_scenario(scenario)
    assert in_file.topology.nic_bw == 10e9
    assert load_scenario(scenario, {"topology": "mine.yaml"}).topology.nic_bw == 5e9
    assert reread(in_file, tmp_path).fingerprint == in_file.fingerprint


def test_auto_stages_always_work_where_there_is_a_layer_for_each():
    for pp in (1, 2, 4, 8, 16):
        dp = 2048 // pp
        s = load_scenario(
            "dsv3-train-h800",
            {
                "layout.stages": "auto",
                "layout.pp": str(pp),
                "layout.dp": str(dp),
                "train.schedule": "1f1b",
                "train.gbs": str(dp * 32),
            },
        )
        layers = [layer for stage in s.layout.stages for layer in stage.layers]
        assert layers == list(range(61))
        assert len(s.layout.stages) == pp


def test_scenario_is_frozen():
    s = load_scenario("toy-dense")
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.kind = "serve"
    with pytest.raises(ValueError, match="frozen"):
        s.train.gbs = 3


def test_loading_is_fast():
    def once():
        start = time.perf_counter()
        load_scenario("dsv3-train-h800")
        return time.perf_counter() - start

    assert min(once() for _ in range(3)) < 0.4


def test_shipped_files_are_found_in_a_wheel(tmp_path):
    package = Path(simdeep.__file__).parent
    skip = shutil.ignore_patterns("__pycache__", "traces")
    shutil.copytree(package, tmp_path / "simdeep", ignore=skip)
    for kind in ("topologies", "scenarios"):  # as pyproject.toml has them put into the wheel
        files = next(iter(catalogue(kind).values())).parent
        shutil.copytree(files, tmp_path / "simdeep" / "data" / kind, dirs_exist_ok=True)
    code = "from simdeep.spec.scenario import load_scenario as l; print(l('toy-dense').fingerprint)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == load_scenario("toy-dense").fingerprint


def test_import_leaves_heavy_libraries_alone():
    heavy = ["pandas", "matplotlib", "networkx", "numba", "scipy", "rich", "simpy", "bokeh"]
    code = f"import sys, simdeep.spec.scenario; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_schemas_are_json_and_every_field_says_what_it_means(kind):
    schema = SCHEMAS[kind]()
    json.dumps(schema)
    sections = [schema, *schema["$defs"].values()]
    fields = [(n, f) for part in sections for n, f in part.get("properties", {}).items()]
    assert fields
    assert [name for name, field in fields if not field.get("description")] == []
    assert not any("aliases" in field for _, field in fields)


def test_scenario_schema_knows_every_key_of_the_shipped_files():
    schema = SCHEMAS["scenario"]()
    of_kind = {"train": "TrainScenario", "fb-pair": "PairScenario", "alltoall": "AllToAllScenario"}
    of_kind |= {"serve": "ServeFields"}
    for path in catalogue("scenarios").values():
        data = YAML(typ="safe", pure=True).load(path.read_text())
        top = schema["$defs"][of_kind[data["kind"]]]
        assert set(data) <= set(top["properties"])
        assert set(top["required"]) <= set(data)
        for name, value in data.items():
            declared = top["properties"][name]
            forms = (declared, *declared.get("anyOf", ()))
            refs = [form["$ref"] for form in forms if "$ref" in form]
            if isinstance(value, dict) and refs:
                section = refs[0].rsplit("/", 1)[1]
                assert set(value) <= set(schema["$defs"][section]["properties"])
    layout = schema["$defs"]["LayoutFields"]["properties"]
    assert layout["pipeline_model_parallel_size"]["type"] == layout["pp"]["type"] == "integer"


keys = st.sampled_from(
    ["layout.pp", "layout.ep", "layout.dp", "layout.stages", "train.gbs", "train.schedule",
     "train", "train.recompute", "routing.kind", "layout", "kind", "model", "x.y", "price.x"]
)  # fmt: skip
values = st.text(max_size=8) | st.integers(-2, 4096).map(str) | st.sampled_from(
    ["auto", "[1, 2]", "{a: 1}", ".nan", "1f1b", "full", "fb-pair", "llama-3.1-8b", "null"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, values, max_size=4))
def test_any_override_gives_a_scenario_or_placed_problems(overrides):
    problems, scenario = (), None
    try:
        scenario = load_scenario("dsv3-train-h800", overrides)
    except InputError as error:
        problems = error.problems
    assert all(p.place and p.message for p in problems)
    if scenario is None:
        assert problems
    else:
        assert scenario.layout.n_ranks <= scenario.topology.gpus
        assert json.loads(json.dumps(scenario.resolved())) == scenario.resolved()
