"""What the answer says about where its kernel times come from."""

import pytest

from simdeep.report.inputs import inputs_of
from simdeep.spec.scenario import load_scenario


@pytest.mark.parametrize(
    ("gpu", "kind", "source"),
    [("h200", "measured (", "h200.csv"), ("h800", "measured (", "h800_train_trace.csv")],
)
def test_gemm_times_are_those_of_the_precision(gpu, kind, source):
    """Also where the library picks its tiles."""
    scenario = load_scenario("sweep-gpus", {"topology.gpu": gpu})
    said = next(item for item in inputs_of(scenario) if item.name == "fp8 GEMM times")
    assert kind in said.value
    assert source in said.source
