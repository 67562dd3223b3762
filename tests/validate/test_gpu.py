"""The shipped calibrations against the shipped measurements of a layer; no torch."""

import json
from pathlib import Path

import pytest

from simdeep.cost.calibration import load_calibration
from simdeep.errors import InputError
from simdeep.validate import gpu

REPORTS = Path(__file__).parents[2] / "reports"
DEVICES = {"h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200"}


@pytest.fixture(scope="module", params=DEVICES)
def name(request):
    """A shipped calibration that was made on a GPU."""
    return request.param


@pytest.fixture(scope="module")
def report(name):
    return json.loads((REPORTS / f"gpu-{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def calibration(name):
    return load_calibration(name)


def test_layer_within_ten_percent(report, calibration):
    found = gpu.compare_layer(gpu.predict_layer(calibration), report["measured_us"])
    judged = {c.name: c for c in found if c.judged}
    assert [*judged] == ["F", "I", "W"]
    assert all(abs(c.error) < 0.10 for c in judged.values())


def test_report_is_of_the_shipped_calibration(report, calibration):
    said = {row["name"]: row["predicted"] for row in report["layer_us"]}
    found = gpu.compare_layer(gpu.predict_layer(calibration), report["measured_us"])
    for row in found:
        assert said[row.name] == pytest.approx(row.predicted, rel=1e-6)


def test_effect_of_held_sms_within_ten_percent(report, calibration):
    times = report["measured_us"]
    pairs = {step: (times["kernels"][step], us) for step, us in times["kernels_held"].items()}
    judged = [c for c in gpu.compare_held(calibration, pairs, 20) if c.judged]
    assert [c.name for c in judged] == ["gemm", "attention"]
    assert all(abs(c.error) < 0.10 for c in judged)
    assert all(c.measured > 1.02 for c in judged), "the stand-in must cost something"


def test_more_held_sms_cost_more(calibration):
    kernel = gpu.layer_kernel_table()["attn", "F"][-3:]
    times = [gpu.predict_piece(kernel, calibration, held) for held in (0, 20, 60)]
    assert times == sorted(times)


def test_components_add_up_to_the_kernels(calibration):
    found = gpu.predict_layer(calibration)
    assert sum(found.components.values()) == pytest.approx(sum(found.kernels.values()))


def test_another_device_or_version_is_refused(name, calibration):
    mine = DEVICES[name]
    for present, words in (
        ({"device": "NVIDIA A100", "torch": "2.11.0+cu130"}, f"made on {mine}, this is NVIDIA A"),
        ({"device": mine, "torch": "2.9.1+cu128"}, "made on 2.11, this is 2.9"),
    ):
        with pytest.raises(InputError, match=words):
            gpu.check_device(calibration, present, "x")
    gpu.check_device(calibration, {"device": mine, "torch": "2.11.1+cu130"}, "x")


def test_the_calibration_of_a_device_is_found(name):
    assert gpu.shipped_for({"device": DEVICES[name]}) == name
    with pytest.raises(InputError, match=r"was made on NVIDIA A100; run `simdeep calibrate`"):
        gpu.shipped_for({"device": "NVIDIA A100"})


def test_a_calibration_that_names_no_device_is_refused():
    h800 = load_calibration("h800")
    with pytest.raises(InputError, match="does not say what device"):
        gpu.check_device(h800, {"device": "x", "torch": "2.11"}, "x")
    with pytest.raises(InputError, match="no power model"):
        gpu.predict_layer(h800)
