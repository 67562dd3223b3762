"""Orders against those of the torch that is installed, for every size a test has time for."""

import pytest

from simdeep.program.schedule import build_table, to_csv
from tests.data.make_torch_schedules import LOOPED, SINGLE, V_SHAPED, executed_csv, looped

SIZES = [(2, 4), (3, 7), (4, 8), (4, 14), (5, 10), (6, 31), (8, 20), (8, 48), (16, 96)]


@pytest.mark.parametrize(("pp", "microbatches"), SIZES)
@pytest.mark.parametrize("vpp", [1, 2, 3, 4])
def test_orders_are_those_torch_executes(pp, microbatches, vpp):
    names = {1: SINGLE, 2: V_SHAPED}.get(vpp, ())
    if vpp > 1 and looped(pp, microbatches):
        names += LOOPED
    for name in names:
        if name == "DualPipeV" and microbatches < 2 * pp:
            continue  # torch refuses it too
        ours = to_csv(build_table(name, pp, microbatches, vpp))
        assert ours == executed_csv(name, pp, microbatches, vpp), name
