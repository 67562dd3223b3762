"""The benchmarks' arithmetic and report; what they measure takes minutes and is run by hand."""

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.claims import Claim, claims, exponent
from benchmarks.steps import BY_GPUS, BY_MICROBATCHES, FOLDED, SMALL, WHOLE, Step

REPORTS = Path(__file__).parent.parent / "reports"


@pytest.fixture
def found():
    document = json.loads((REPORTS / "benchmarks.json").read_text(encoding="utf-8"))
    document.pop("claims")
    return document


def test_the_report_is_what_its_figures_say(found, tmp_path):
    judged = claims(found)
    report.write(found, judged, tmp_path)
    for name in ("benchmarks.json", "benchmarks.md"):
        assert (tmp_path / name).read_text("utf-8") == (REPORTS / name).read_text("utf-8")
    assert (tmp_path / "benchmarks.png").stat().st_size > 10_000
    assert all(claim.holds for claim in judged)


def test_a_claim_is_judged_by_its_bound():
    assert Claim("speed", 3.0, 2.0, True, "").holds
    assert Claim("speed", 3.0, 2.0, True, "").ratio == 1.5
    assert not Claim("time", 3.0, 2.0, False, "").holds


@pytest.mark.parametrize("power", [0.9, 1.0, 1.3])
def test_the_exponent_of_a_power_law(power):
    rows = [{"tasks": n, "compiled_cpu_s": 7e-7 * n**power} for n in (1e4, 3e5, 1e7)]
    assert exponent(rows) == pytest.approx(power)


@pytest.mark.parametrize("step", [FOLDED, SMALL, WHOLE, *BY_MICROBATCHES, *BY_GPUS, Step(32, ep=2)])
def test_every_step_is_a_valid_scenario(step):
    scenario = step.scenario()
    assert scenario.layout.n_ranks == step.gpus
    assert scenario.microbatches == step.microbatches
    assert scenario.simulate.fold == step.fold
