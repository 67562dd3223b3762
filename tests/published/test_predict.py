"""A few predictions of each era, and the habits of frameworks as physics."""

import pytest

from simdeep.published.cases import load_cases
from simdeep.published.predict import predict

CASES = {case.id: case for case in load_cases()}
GOOD = (
    "megatron-sc21-39.1B",
    "megatron-sc21-t2-174.6B-PTD-1536",
    "korthikanti-22B-full",
    "mosaic-h100_80gb-13b-s4096-n8-bf16",
    "mosaic-a100_40gb-7b-s2048-n8-bf16",
    "simumax-b200-llama3_70b_l12_tp1_pp2_dp4_mbc8_cef",
    "vtrain-39.1B-tp4-dp32-pp4-mb4",
)


@pytest.mark.parametrize("name", GOOD)
def test_runs_within_a_tenth(name):
    found = predict(CASES[name])
    assert found.reason is None
    assert found.fits
    assert found.seconds == pytest.approx(CASES[name].measured_s, rel=0.1)


def test_slower_gathers_slow_a_sharded_step():
    case = CASES["megatron-sc21-t2-174.6B-ZeRO-3-1536"]
    times = [predict(case, changes={"gather_share": share}).seconds for share in (1.0, 0.3, 0.1)]
    assert times[0] < times[1] < times[2]
    # Bound by its gathers, a step takes ten times as long at a tenth of the rate, nearly.
    assert times[2] / times[1] == pytest.approx(3, rel=0.15)


def test_launches_bound_small_layers():
    case = CASES["mosaic-a100_40gb-125m-s2048-n8-bf16"]
    free, same, bound = (
        predict(case, changes={"host_launch_us": us}).seconds for us in (0, 1, 1000)
    )
    assert free == same
    assert bound > 1.3 * free


def test_tensor_parallel_overlap_hides_more_and_more():
    case = CASES["korthikanti-22B-selective-sp"]
    none, backward, full = (
        predict(case, changes={"tp_overlap": how}).seconds for how in ("none", "backward", "full")
    )
    assert none > backward > full


def test_what_cannot_be_predicted_says_why():
    assert "one layer" in str(predict(CASES["korthikanti-22B-layer-sp"]).reason)
    assert "global batch" in str(predict(CASES["megascale-530B-megascale-2240"]).reason)
