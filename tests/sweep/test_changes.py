"""Models, topologies and GPUs with changed values."""

import json

import pytest

from simdeep.errors import InputError
from simdeep.spec.scenario import load_training


def load(**changes):
    return load_training(
        "toy-dense", {key.replace("__", "."): str(value) for key, value in changes.items()}
    )


def test_a_changed_value_reaches_the_cluster():
    scenario = load(topology__nic__bandwidth="25 GB/s", topology__gpu__hbm_bandwidth="2 TB/s")
    plain = load()
    assert scenario.topology.nic_bw == 25e9
    assert scenario.topology.gpu.hbm_bw == 2e12
    assert scenario.topology.gpu.peak == plain.topology.gpu.peak
    assert scenario.topology.sources["nic.bandwidth"] == "changed by the scenario"
    assert "nic.bandwidth 25 GB/s" in scenario.topology.name
    assert scenario.fingerprint != plain.fingerprint


def test_a_changed_gpu_is_not_the_calibrated_one():
    from simdeep.api import machine_of

    changed = load_training("dsv3-train-h800", {"topology.gpu.hbm_bandwidth": "6.7 TB/s"})
    plain = load_training("dsv3-train-h800")
    twice, once = (machine_of(s).calibration.memory["other"] for s in (changed, plain))
    assert twice.bandwidth == pytest.approx(2 * once.bandwidth)
    assert twice.provenance.kind == "scaled"


def test_a_changed_model():
    assert load(model__num_hidden_layers=16).model.n_layers == 16
    assert load(model="llama-3.1-70b").model.n_layers == 80


def test_a_file_may_be_named_and_changed_in_any_order():
    flags = {"topology.gpus": "32", "topology": "h100-512", "topology.gpu": "h200"}
    scenario = load_training("toy-dense", flags)
    assert scenario.topology.gpus == 32
    assert scenario.topology.gpu.name.startswith("NVIDIA H200")


@pytest.mark.parametrize(
    "flags",
    [
        {"topology.nic.bandwidth": "25 GB/s", "model.vocab_size": "1000"},
        {"topology.gpu": "h100", "topology.gpu.peak.bf16": "500 TFLOP/s"},
        {"topology.overrides": "[{element: nic 3, down: true}]", "simulate.fold": "false"},
    ],
)
def test_resolved_reads_back(tmp_path, flags):
    scenario = load_training("toy-dense", flags)
    file = tmp_path / "again.yaml"
    file.write_text(json.dumps(scenario.resolved(), indent=1))
    again = load_training(file)
    assert again.resolved() == scenario.resolved()
    assert again.fingerprint == scenario.fingerprint


def test_every_problem_has_the_place_of_its_change(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "kind: train\n"
        "model: {base: llama-3.1-8b, num_hiden_layers: 2}\n"
        "topology:\n"
        "  base: toy-2x8\n"
        "  nic: {bandwidth: fast}\n"
        "  gpu: {sms: none}\n"
        "train: {gbs: 8}\n"
    )
    with pytest.raises(InputError) as error:
        load_training(file)
    found = {(p.place.rpartition(":")[2], p.key) for p in error.value.problems}
    assert found == {
        ("2", "model.num_hiden_layers"),
        ("5", "topology.nic.bandwidth"),
        ("6", "topology.gpu.sms"),
    }


@pytest.mark.parametrize(
    ("text", "part"),
    [("{nic: {bandwidth: 1 GB/s}}", "has no base"), ("{base: 3}", "has no base"), ("7", "text")],
)
def test_a_base_must_be_named(text, part):
    with pytest.raises(InputError, match=part):
        load_training("toy-dense", {"topology": text})
