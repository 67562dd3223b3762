"""Every sort of bad input gets one error with every problem and its place."""

import json
from pathlib import Path

import pytest

from simdeep.errors import InputError
from simdeep.spec.resources import catalogue, resource_dir
from simdeep.spec.scenario import load_scenario

MAIN = "dsv3-train-h800"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(path, overrides=None):
    with pytest.raises(InputError) as caught:
        load_scenario(path, overrides)
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def scenario_file(folder, *changes, name=MAIN):
    """A copy of a shipped scenario in `folder` with pieces of text replaced."""
    text = catalogue("scenarios")[name].read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "bad.yaml").write_text(text)
    return "bad.yaml"


def topology_file(folder, *changes):
    text = catalogue("topologies")["toy-2x8"].read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "cluster.yaml").write_text(text)
    return {"topology": "cluster.yaml"}


def last_line(original, old, new):
    """Line, in the changed text, of the end of what replaced `old`."""
    return original[: original.index(old)].count("\n") + 1 + new.count("\n")


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("  pp: 16", "  ppp: 16", "layout.ppp", "unknown key; did you mean pp?"),
        ("kind: train", "kind: train\ngoals: 1", "goals", "unknown key; did you mean goal?"),
        ("  mtp: true", "  ep: 8", "train.ep", "unknown key here; did you mean layout.ep?"),
        ("  mtp: true", "  mtp: yes", "train.mtp", "in YAML 1.2 yes is text, write true"),
        ("  mtp: true", "  mtp: 1", "train.mtp", "is 1; must be true or false"),
        ("  gbs: 15360", "  gbs: '15360'", "train.gbs", "write 15360 without quotes"),
        ("  gbs: 15360", "  gbs: 15360.0", "train.gbs", "must be a whole number"),
        ("  gbs: 15360", "  gbs: true", "train.gbs", "is true; must be a whole number"),
        ("  gbs: 15360", "  gbs:", "train.gbs", "is empty; must be a whole number"),
        ("  pp: 16", "  pp: 0", "layout.pp", "is 0; must be at least 1"),
        ("  zero: 1", "  zero: 4", "layout.zero", "is 4; must be at most 3"),
        ("precision: fp8", "precision: FP8", "train.precision", "did you mean fp8?"),
        ("schedule: dualpipe", "schedule: dualpip", "train.schedule", "did you mean dualpipe?"),
        (
            "kind: train",
            "kind: trian",
            "kind",
            "must be one of train, fb-pair, serve; did you mean train?",
        ),
        ("deepseek-v3", "deepseek-v33", "model", "did you mean 'deepseek-v3'?"),
        ("h800-2048", "h800-204", "topology", "did you mean 'h800-2048'?"),
        ("{kind: gate", "{kind: gated", "routing.kind", "did you mean gate?"),
        ("draws: 24", "skew: -0.1", "routing.skew", "is -0.1; must be at least 0"),
        ("draws: 24", "skew: .nan", "routing.skew", "must be finite"),
        ("14.8e12", ".inf", "goal.tokens", "must be finite"),
        ("14.8e12", "-1", "goal.tokens", "must be more than 0 ("),
        ("hour: 2.0", "hour: 2 EUR/h", "price.usd_per_gpu_hour", "wrong unit 'EUR/h'"),
        ("hour: 2.0", "hour: 2 GB/s", "price.usd_per_gpu_hour", "that is a bandwidth"),
        ("hour: 2.0", "hour: -2.0", "price.usd_per_gpu_hour", "must be at least 0"),
        ("[norm,", "[nrom,", "train.recompute", "must be none or a list of norm, mla_up"),
        ("[norm,", "[nrom,", "train.recompute", "did you mean norm?"),
        ("comm_sms: 20", "comm_sms: 132", "train.comm_sms", "less than the 132 SMs"),
        ("  mbs: 1", "  mbs: 1\n  mbs: 2", "train.mbs", "given twice"),
    ],
)
def test_one_wrong_value_is_one_problem_at_its_line(folder, old, new, key, says):
    path = scenario_file(folder, (old, new))
    found = problems(path)
    assert len(found) == 1, found
    line = last_line(catalogue("scenarios")[MAIN].read_text(), old, new)
    assert found[0].startswith(f"bad.yaml:{line}: {key}: ")
    assert says in found[0]


@pytest.mark.parametrize(
    ("overrides", "key", "says"),
    [
        ({"layout.stages": "[" + "4, " * 15 + "2]"}, "layout.stages", "sums to 62 layers, but"),
        ({"layout.stages": "[30, 31]"}, "layout.stages", "lists 2 stages, but there are"),
        ({"layout.stages": "[" + "5, " * 12 + "0, 0, 0, 1]"}, "layout.stages", "stage 12 has no"),
        ({"layout.stages": "4"}, "layout.stages", "4 is not 'auto' or a list"),
        ({"layout.stages": "[61, -1]"}, "layout.stages", "-1 in the list is not a number"),
        ({"train.gbs": "3968"}, "train.gbs", "31 micro-batches; dualpipe at pp 16 needs at least"),
        ({"train.gbs": "4224"}, "train.gbs", "33 micro-batches; dualpipe needs an even number"),
        (
            {"train.gbs": "15361"},
            "train.gbs",
            "must be a multiple of dp*mbs = 128*1 = 128, such as",
        ),
        (
            {"train.mbs": "7"},
            "train.gbs",
            "must be a multiple of dp*mbs = 128*7 = 896, such as 152",
        ),
        ({"layout.ep": "3"}, "layout.ep", "must divide dp*cp*tp = 128*1*1 = 128, as 2 does"),
        ({"layout.ep": "96"}, "layout.ep", "must divide the 256 experts of deepseek-v3, as 64"),
        ({"layout.dp": "64"}, "layout.dp", "= 1024 GPUs, but h800-2048 has 2048; dp: 128 fits"),
        ({"topology": "h100-512"}, "layout.dp", "= 2048 GPUs, but h100-512 has 512; dp: 32 fits"),
        ({"layout.cp": "3"}, "train.seq_len", "is 4096; must be divisible by cp = 3"),
        ({"layout.vpp": "2"}, "layout.vpp", "dualpipe has one stage a rank"),
        ({"model": "llama-3.1-8b"}, "layout.ep", "llama-3.1-8b has no experts; must be 1"),
        ({"model": "llama-3.1-8b"}, "train.mtp", "no multi-token prediction"),
        ({"model": "llama-3.1-8b"}, "train.recompute", "no latent attention"),
        ({"routing.kind": "recorded"}, "routing.file", "is missing"),
        ({"routing.file": "none.csv"}, "routing.file", "no such file"),
        ({"calibration": "h80"}, "calibration", "no shipped calibration"),
        ({"topology": "a100-512"}, "train.precision", "has no fp8 peak; it has bf16"),
        ({"layout": "3"}, "layout", "is 3; must be a section of keys"),
        ({"layout.pp.x": "3"}, "layout.pp.x", "layout.pp is 16, which has no keys inside"),
        ({"layout.stages.16": "3"}, "layout.stages.16", "is a list of 16; give 0..15"),
        ({"": "3"}, "", "a key is names joined by dots"),
        ({"layout..pp": "3"}, "", "a key is names joined by dots"),
        ({"layuot.pp": "3"}, "layuot", "unknown key; did you mean layout?"),
        ({"train.gbs": "[1"}, "train.gbs", "not valid YAML"),
        ({"train.gbs": "&a 1"}, "train.gbs", "anchors and aliases are refused"),
        ({"train.gbs": ".nan"}, "train.gbs", "must be finite"),
        ({"train.gbs": ""}, "train.gbs", "is empty; must be a whole number"),
    ],
)
def test_flags_get_the_same_checks_and_are_named_as_the_place(overrides, key, says):
    found = problems(MAIN, overrides)
    flag, value = next(iter(overrides.items()))
    prefix = f"--set {flag}={value}: " + (f"{key}: " if key else "")
    assert any(text.startswith(prefix) and says in text for text in found), found


def test_dualpipe_needs_an_even_pipeline():
    found = problems(
        MAIN,
        {"layout.pp": "15", "layout.dp": "128", "layout.stages": "auto", "topology": "h800-2048"},
    )
    assert any("layout.pp: is 15; must be even for dualpipe" in text for text in found)


def test_tensor_parallel_must_fit_the_heads(folder):
    path = scenario_file(
        folder, ("{tp: 4, pp: 2, sp: true, ", "{tp: 16, pp: 1, "), name="toy-dense"
    )
    assert load_scenario(path).layout.tp == 16  # a multiple of the 8 key-value heads
    path = scenario_file(folder, ("tp: 4, pp: 2", "tp: 64, pp: 1"), name="toy-dense")
    assert any("must divide the 32 attention heads" in text for text in problems(path))


def test_all_problems_come_at_once_in_the_order_of_the_file(folder):
    path = scenario_file(
        folder,
        ("  ep: 64", "  ep: 96"),
        ("  cp: 1", "  cp: -1"),
        ("schedule: dualpipe", "schedul: dualpipe"),
        ("precision: fp8", "precision: fp9"),
        ("15360 ", "nan "),
        ("draws: 24", "skwe: 0.1"),
        ("goal:", "gaol:"),
    )
    found = problems(path)
    keys = [text.split(": ")[1] for text in found]
    assert keys == [
        "layout.ep",
        "layout.cp",
        "train.schedul",
        "train.gbs",
        "train.precision",
        "routing.skwe",
        "gaol",
    ]
    lines = [int(text.split(":")[1]) for text in found]
    assert lines == sorted(lines)


def test_nothing_is_said_that_follows_from_another_problem(folder):
    path = scenario_file(folder, ("  dp: 128", "  dp: none"))
    assert len(problems(path)) == 1


def test_missing_keys_are_named_with_their_meaning(folder):
    (folder / "bad.yaml").write_text("kind: train\nlayout: {tp: 2}\n")
    found = problems("bad.yaml")
    assert [text.split(": ")[1] for text in found] == ["model", "topology", "train"]
    assert all("is missing (" in text for text in found)
    (folder / "bad.yaml").write_text("model: deepseek-v3\n")
    assert any("kind: is missing; must be one of train, fb-pair" in t for t in problems("bad.yaml"))


@pytest.mark.parametrize("missing", ["hidden_size", "kv_lora_rank", "n_routed_experts"])
def test_a_model_lacking_a_key(folder, missing):
    config = json.loads((resource_dir("models") / "deepseek-v3" / "config.json").read_text())
    del config[missing]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    found = problems(scenario_file(folder, ("deepseek-v3\n", "config.json\n")))
    assert any("config.json" in text and missing in text for text in found), found


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x00\x01\xff", b"[]", b'{"a": NaN}', b"[" * 10**5]
)
def test_models_that_are_no_configuration(folder, content):
    (folder / "config.json").write_bytes(content)
    found = problems(scenario_file(folder, ("deepseek-v3\n", "config.json\n")))
    assert any("config.json" in text for text in found)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("bandwidth: 10 GB/s", "bandwidth: -10 GB/s", "nic.bandwidth", "out of range"),
        ("bandwidth: 10 GB/s", "bandwidth: 0 GB/s", "nic.bandwidth", "greater than zero"),
        ("bandwidth: 10 GB/s", "bandwidth: 10", "nic.bandwidth", "has no unit"),
        ("bandwidth: 10 GB/s", "bandwidth: 10 GiB", "nic.bandwidth", "that is a capacity"),
        ("bandwidth: 10 GB/s", "bandwidth: .nan", "nic.bandwidth", "finite"),
        ("bandwidth: 10 GB/s", "bandwidth: nan GB/s", "nic.bandwidth", "not a number"),
        ("bandwidth: 10 GB/s", "bandwith: 10 GB/s", "nic.bandwith", "did you mean bandwidth"),
        ("gpus: 16", "gpus: 17", "gpus", "17"),
        ("gpu: toy", "gpu: tyo", "gpu", "did you mean 'toy'"),
    ],
)
def test_a_wrong_topology_is_reported_at_its_own_file(folder, old, new, key, says):
    overrides = topology_file(folder, (old, new))
    line = last_line(catalogue("topologies")["toy-2x8"].read_text(), old, new)
    found = problems("toy-dense", overrides)
    assert any(t.startswith(f"cluster.yaml:{line}: {key}: ") and says in t for t in found), found


def test_problems_of_scenario_model_and_topology_come_together(folder):
    topology_file(folder, ("10 GB/s", "-10 GB/s"))
    (folder / "config.json").write_text("{}")
    path = scenario_file(
        folder,
        ("llama-3.1-8b", "config.json"),
        ("topology: toy-2x8", "topology: cluster.yaml"),
        ("gbs: 32", "gbs: -32"),
        name="toy-dense",
    )
    text = "\n".join(problems(path))
    assert "config.json" in text
    assert "cluster.yaml" in text
    assert "bad.yaml:10: train.gbs: is -32" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"- a\n- b\n", "must be keys and values"),
        (b"just text\n", "must be keys and values"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is it a binary file?"),
        (b"a: &a [x]\nb: [*a, *a]\n", "aliases are refused"),
        (b"[" * 10**5, "nested deeper"),
        (b"a: 1\n" * 10**6, "larger than"),
    ],
)
def test_files_that_are_no_scenario(folder, content, says):
    (folder / "bad.yaml").write_bytes(content)
    found = problems("bad.yaml")
    assert found[0].startswith("bad.yaml")
    assert any(says in text for text in found)


def test_directories_and_missing_files_with_near_names(folder):
    assert "is a directory" in problems(str(folder))[0]
    scenario_file(folder)
    assert "did you mean 'bad.yaml'?" in problems("bda.yaml")[0]
    assert f"did you mean {MAIN!r}?" in problems("dsv3-train-h80")[0]
    assert f"did you mean the shipped scenario {MAIN!r}?" in problems(f"x/{MAIN}.yaml")[0]
    assert MAIN in problems("something-else")[0]
    for odd in ("", " ", "a\0b", "x" * 5000):
        assert len(problems(odd)) == 1


def test_a_pair_refuses_what_only_a_step_has():
    found = problems(
        "dsv3-fb-pair-h800", {"train.gbs": "64", "layout.pp": "2", "layout.dp": "4096"}
    )
    text = "\n".join(found)
    assert "train.gbs: unknown key" in text
    assert "layout.pp: is 2; a pair of chunks runs on one stage, so it must be 1" in text
    assert "has only 2048" in text
    assert (
        "layers 60..63; deepseek-v3 has 0..60"
        in problems("dsv3-fb-pair-h800", {"layers.first": "60"})[0]
    )


def test_a_key_given_by_two_names(folder):
    path = scenario_file(folder, ("  pp: 16", "  pp: 16\n  pipeline_model_parallel_size: 16"))
    found = problems(path)
    key = "layout.pipeline_model_parallel_size"
    line = 1 + Path(path).read_text().split("pipeline_model")[0].count("\n")
    assert found == [f"bad.yaml:{line}: {key}: the same key as pp; give one of them"]


def test_a_wrong_value_keeps_the_name_it_is_written_with(folder):
    path = scenario_file(folder, ("  pp: 16", "  pipeline_model_parallel_size: none"))
    found = problems(path)
    assert len(found) == 1
    assert "layout.pipeline_model_parallel_size: is 'none'; must be a whole number" in found[0]
