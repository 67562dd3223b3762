"""`schedule: auto` through the whole simulation."""

from simdeep import api
from simdeep.spec.scenario import load_scenario


def test_auto_is_no_slower_than_the_default():
    auto, default = (
        api.simulate(load_scenario("toy-dense", {"train.schedule": name}))
        for name in ("auto", "1f1b")
    )
    assert auto.closed_form is None
    assert auto.memory.fits
    assert auto.step_time_s <= default.step_time_s * 1.02
