"""Scenarios of published runs: what is stated, what is taken for the rest, what cannot be said."""

import dataclasses

import pytest

from simdeep.published.build import CannotExpressError, build, loaded, stage_layers
from simdeep.published.cases import load_cases
from simdeep.published.clusters import gpu_of, nic_gbit
from simdeep.published.frameworks import framework_of, frameworks
from simdeep.spec.params import params

CASES = {case.id: case for case in load_cases()}


def test_every_run_has_a_framework_and_a_gpu():
    assert all(framework_of(case) and gpu_of(case) for case in CASES.values())


def test_no_framework_has_more_than_three_fitted_numbers():
    for framework in frameworks():
        assert len(framework.fitted) <= 3
        assert all(item.meaning for item in framework.fitted.values())


def test_every_step_is_said_or_refused_with_a_reason():
    refused = {}
    for case in CASES.values():
        if case.is_rate or case.scope == "single layer":
            continue
        try:
            build(case)
        except CannotExpressError as error:
            refused[case.id] = str(error)
    assert refused == {
        "mcore08-h100-177B-strong-4608": "its source does not state pp",
        "megascale-530B-megascale-2240": "its source does not state the global batch",
    }


def test_a_stated_layout_is_taken_as_it_is():
    made = build(CASES["vtrain-175B-tp8-dp2-pp32-mb3"])
    scenario = loaded(made)
    layout = scenario.layout
    assert (layout.tp, layout.pp, layout.dp, layout.zero) == (8, 32, 2, 0)
    assert (scenario.train.mbs, scenario.train.gbs, scenario.train.precision) == (3, 1536, "fp16")
    assert scenario.microbatches == 256
    assert scenario.topology.nic_bw == pytest.approx(12.5e9)
    assert made.stated
    assert made.schedule_known


def test_parameters_are_the_published_ones():
    for name in ("mosaic-h100_80gb-7b-s2048-n512-bf16", "mosaic-a100_80gb-125m-s65536-n8-bf16"):
        made = build(CASES[name])
        found = params(loaded(made).model).total
        assert found == pytest.approx(CASES[name].model["params"], rel=1e-3)


def test_what_is_not_stated_is_listed():
    made = build(CASES["mcore08-h100-7.1B"])
    assert made.unstated["micro_batch"] == "1"
    assert "recompute" in made.unstated
    assert not made.stated
    open_vocab = build(CASES["zb-1.5B-m24-1f1b-i"])
    assert open_vocab.unstated["vpp"] == "3"
    assert open_vocab.unstated["vocab"] == "50304"


def test_layers_of_stages():
    assert stage_layers(96, 8) == [12] * 8
    assert stage_layers(22, 8) == [2, 3, 3, 3, 3, 3, 3, 2]
    assert stage_layers(30, 32) == [0, *[1] * 30, 0]
    assert stage_layers(61, 16) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hardware": "TPU v5"}, "no GPU file"),
        ({"id": "other-1"}, "no framework"),
        ({"precision": "INT4"}, "'INT4' is not modelled"),
        ({"recompute": "some"}, "'some' is not modelled"),
        ({"schedule": "Chimera"}, "'Chimera' is not modelled"),
    ],
)
def test_what_cannot_be_said(change, words):
    case = dataclasses.replace(CASES["vtrain-175B-tp8-dp2-pp32-mb3"], **change)
    with pytest.raises(CannotExpressError, match=words):
        build(case)


def test_nics():
    assert nic_gbit(CASES["megatron-sc21-1.7B"]) == (200.0, True)
    assert nic_gbit(CASES["vtrain-175B-tp8-dp2-pp32-mb3"]) == (100.0, True)
    assert nic_gbit(CASES["mosaic-h100_80gb-7b-s2048-n512-bf16"]) == (400.0, False)
