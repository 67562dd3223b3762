"""The published bounds of decoding over a network, out of the same program with zero compute."""

import dataclasses as dc

import pytest

from simdeep.serving.deployment import Unit, units_of
from simdeep.serving.iteration import iteration
from simdeep.spec.arch import Layer
from simdeep.spec.scenario import load_scenario

NO_COMPUTE = {"simulate.compute": "false", "simulate.ideal_network": "true"}


def isca_unit(bandwidth: float) -> Unit:
    """arXiv 2505.09343, section 2.3.2: 9 experts a token, hidden 7K, every layer with experts."""
    plain = {
        "deployment.decode.tp": "1",
        "deployment.decode.sp": "false",
        "deployment.decode.dp": "320",
    }
    unit = units_of(load_scenario("dsv3-decode-ep320", plain | NO_COMPUTE))["decode"]
    ffn = unit.model.layers[-1].ffn
    layers = tuple(Layer(i, ffn) for i in range(61))
    model = dc.replace(unit.model, hidden=7000, layers=layers)
    return dc.replace(unit, model=model, topology=dc.replace(unit.topology, nic_bw=bandwidth))


@pytest.mark.parametrize(
    ("bandwidth", "pair_us", "ms"), [(50e9, 120.96, 14.76), (900e9, 6.72, 0.82)]
)
def test_isca_bounds(bandwidth, pair_us, ms):
    found = iteration(isca_unit(bandwidth), 0, 2 * 32, 4096)  # two micro-batches of 32 tokens
    pairs = 2 * 61
    one = (found.parts["dispatch"] + found.parts["combine"]) / pairs * 1e6
    assert one == pytest.approx(pair_us, rel=1e-4)
    assert found.seconds * 1e3 == pytest.approx(ms, abs=0.005)
    assert found.seconds == pytest.approx(pairs * pair_us * 1e-6, rel=1e-4)
    assert set(found.parts) == {"dispatch", "combine"}


def test_with_compute_it_is_slower_than_the_bound():
    bound = isca_unit(50e9)
    real = dc.replace(bound, compute=True, ideal_network=False)
    assert iteration(real, 0, 64, 4096).seconds > iteration(bound, 0, 64, 4096).seconds


def test_low_latency_transfers_are_deepeps():
    """DeepEP's table: 128 tokens over EP128 take 192 us to dispatch and 369 us to combine."""
    unit = units_of(load_scenario("dsv3-decode-ep144"))["decode"]
    alone = dc.replace(
        unit, dp=128, ep=128, redundant=0, skew=0.0, microbatches=1, mtp_tokens=0, compute=False
    )
    found = iteration(alone, 0, 128, 4096)
    dispatch, combine = (found.parts[name] / 58 * 1e6 for name in ("dispatch", "combine"))
    # Send and receive launches, 6.7 us in all, are compute's here.
    assert dispatch == pytest.approx(192, rel=0.1)
    assert combine == pytest.approx(369, rel=0.1)
