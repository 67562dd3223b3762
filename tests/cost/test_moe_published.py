"""DeepEP's published figures: what is fitted must fit, what is not must be predicted."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from simdeep.cost.moe import fewest_sms, load_kernels
from simdeep.cost.moe.constants import DATA, kernels_of
from simdeep.cost.moe.fit import ASSUMED, MEANING, START, fit_table
from simdeep.cost.moe.measured import Compared, Row, compare, compare_all, measured_rows
from simdeep.spec.yamlio import load_document

KERNELS = load_kernels()


def name(row: Row) -> str:
    return f"{row.direction}-ep{row.nodes * 8}"


@pytest.fixture(scope="module")
def values() -> dict[str, float]:
    data = load_document(DATA / "deepep.yaml").data
    return {name: float(entry["value"]) for name, entry in data["constants"].items()}


@pytest.fixture(scope="module")
def sweep() -> list[Compared]:
    return list(compare_all(("sweep",), KERNELS))


@pytest.mark.parametrize("row", measured_rows("v1"), ids=name)
def test_normal_kernels_within_8_percent(row: Row) -> None:
    assert abs(compare(row, KERNELS).error) < 0.08


def test_few_constants_were_fitted_to_each_table() -> None:
    fitted = {
        table: [n for n in START if MEANING[n][0] == table] for table in ("v1", "low_latency")
    }
    assert fitted["v1"] == ["nic_efficiency", "nvlink_efficiency"]
    assert len(fitted["low_latency"]) <= 3
    assert all(MEANING[n][0] in ("published", "assumed") for n in ASSUMED)
    assert 0.5 < KERNELS.nic_efficiency < 1
    assert 0.5 < KERNELS.nvlink_efficiency < 1


def test_nvlink_limits_two_nodes_and_ib_more() -> None:
    limits = {name(r): compare(r, KERNELS).result.limit for r in measured_rows("v1")}
    for direction in ("dispatch", "combine"):
        assert limits[f"{direction}-ep8"] == "nvlink"
        assert limits[f"{direction}-ep16"] == "nvlink"
        assert limits[f"{direction}-ep32"] == "ib"
        assert limits[f"{direction}-ep64"] == "ib"


@pytest.mark.parametrize("nodes", [2, 8])
def test_a_size_left_out_of_the_fit_is_predicted(nodes: int, values: dict[str, float]) -> None:
    others = [r for r in measured_rows("v1") if r.nodes != nodes]
    kernels = kernels_of(fit_table(values, "v1", others))
    for row in measured_rows("v1"):
        if row.nodes == nodes:
            assert abs(compare(row, kernels).error) < 0.08


@pytest.mark.parametrize("row", measured_rows("low_latency"), ids=name)
def test_low_latency_kernels_within_15_percent(row: Row) -> None:
    found = compare(row, KERNELS)
    assert abs(found.error) < 0.15
    assert found.result.sms == 0


@pytest.mark.parametrize("row", measured_rows("first_low_latency"), ids=name)
def test_the_older_low_latency_table_is_predicted(row: Row) -> None:
    """Nothing is fitted to it: the same constants, with messages of a node on the NIC."""
    assert abs(compare(row, KERNELS).error) < 0.10


def test_sweep_within_15_percent_median(sweep: list[Compared]) -> None:
    errors = np.array([abs(c.error) for c in sweep])
    assert len(errors) == 78
    assert np.median(errors) < 0.15
    assert np.mean(errors < 0.15) > 0.9
    assert errors.max() < 0.25


@pytest.mark.parametrize("direction", ["dispatch", "combine"])
@pytest.mark.parametrize("nodes", [2, 4])
@pytest.mark.parametrize("tokens", [128, 1024, 4096])
def test_where_more_sms_stop_helping(
    direction: str, nodes: int, tokens: int, sweep: list[Compared]
) -> None:
    """Fewest SMs within 5% of the best time, one step of 4 SMs allowed."""
    rows = [
        c
        for c in sweep
        if (c.row.direction, c.row.nodes, c.row.tokens) == (direction, nodes, tokens)
    ]
    measured = fewest_sms([(c.row.sms, c.row.value) for c in rows])
    modelled = fewest_sms([(c.row.sms, c.model) for c in rows])
    assert abs(measured - modelled) <= 4


def test_the_shipped_constants_are_what_the_fit_finds(values: dict[str, float]) -> None:
    for table in ("v1", "low_latency"):
        again = fit_table(values, table)
        assert again == pytest.approx(values, rel=2e-3)


def test_the_shipped_residuals_are_the_models() -> None:
    with (DATA / "residuals.csv").open(newline="") as file:
        shipped = [r for r in csv.DictReader(file) if r["table"] == "v1"]
    for row, kept in zip(measured_rows("v1"), shipped, strict=True):
        assert compare(row, KERNELS).model == pytest.approx(float(kept["model"]), rel=1e-3)
