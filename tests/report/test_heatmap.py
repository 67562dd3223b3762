import numpy as np
import pytest

from simdeep.report import charts


def image(ax):
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def test_every_gpu_of_a_big_cluster_has_its_cell():
    ns = np.arange(2048) * 1e6
    found = image(charts.gpu_heatmap(ns, 8))
    assert found.shape == (8 * 9 - 1, 32)
    assert np.count_nonzero(~np.isnan(found)) == 2048
    # GPU 3 of node 33 is in the second row of nodes, second column.
    assert found[9 + 3, 1] == pytest.approx((33 * 8 + 3) * 1e-3)
    assert np.isnan(found[8]).all()


def test_the_worst_gpus_are_framed_and_named():
    ns = np.zeros(64)
    ns[[5, 40]] = 2e9, 1e9
    ax = charts.gpu_heatmap(ns, 8)
    assert len(ax.patches) == 2
    assert [t.get_text() for t in ax.texts] == ["largest, framed: GPU 5 (2 s), GPU 40 (1 s)"]


@pytest.mark.parametrize("gpus", [1, 8, 12, 72])
def test_any_size_of_cluster_and_node(gpus, tmp_path):
    ns = np.full(gpus, -1e3)
    for per_node in (1, 4, 8, 72):
        ax = charts.gpu_heatmap(ns, per_node)
        assert np.count_nonzero(~np.isnan(image(ax))) == gpus
        assert not ax.patches
    charts.save(ax, tmp_path / "map.png")


def test_same_chart_same_bytes(tmp_path):
    paths = [
        charts.save(charts.gpu_heatmap(np.arange(16.0), 8), tmp_path / f"{i}.svg") for i in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
