"""Stage partitions against all cuts."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdeep.errors import InputError
from simdeep.program.search import Layers, partition_layers

values = st.integers(0, 9).map(float)


@given(st.data(), st.integers(1, 7), st.integers(1, 4))
def test_the_best_of_all_cuts_that_fit(data, n, parts):
    parts = min(parts, n)
    columns = [np.array(data.draw(st.lists(values, min_size=n, max_size=n))) for _ in range(3)]
    layers = Layers(*columns)
    flight = np.array(data.draw(st.lists(st.integers(1, 3), min_size=parts, max_size=parts)))
    limit = data.draw(st.sampled_from([10.0, 25.0, 40.0, np.inf]))
    fitting = []
    for cut in combinations(range(1, n), parts - 1):
        edges = [0, *cut, n]
        runs = [slice(a, b) for a, b in pairwise(edges)]
        held = [
            layers.static[r].sum() + k * layers.kept[r].sum()
            for r, k in zip(runs, flight, strict=True)
        ]
        if max(held) <= limit:
            times = [layers.seconds[r].sum() for r in runs]
            fitting.append((max(times), sum(t * t for t in times)))
    if not fitting:
        with pytest.raises(InputError, match="no cut"):
            partition_layers(layers, parts, flight, limit)
        return
    found = partition_layers(layers, parts, flight, limit)
    assert sum(found.counts) == n
    assert min(found.counts) >= 1
    assert (found.bytes <= limit).all()
    assert (found.seconds.max(), (found.seconds**2).sum()) == pytest.approx(min(fitting))


def test_memory_moves_layers_to_later_stages():
    layers = Layers(np.ones(8), np.zeros(8), np.ones(8))
    assert partition_layers(layers, 4, [4, 3, 2, 1]).counts == (2, 2, 2, 2)
    found = partition_layers(layers, 4, [4, 3, 2, 1], 6.0)
    assert found.bound_by_memory
    assert found.counts == (1, 2, 2, 3)
