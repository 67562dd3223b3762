"""The calibration file: where its figures come from, and that the fit still makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simdeep.cost.calibration import Calibration, load_calibration
from simdeep.cost.fit.__main__ import calibrate
from simdeep.cost.fit.rows import Row, union_us
from simdeep.cost.fit.write import to_yaml
from simdeep.errors import InputError
from simdeep.spec.resources import find_resource
from simdeep.spec.yamlio import load_document

from .conftest import TRACES


def test_the_shipped_file_is_what_the_fit_makes() -> None:
    """If this fails: python -m simdeep.cost.fit TRACE.csv > simdeep/data/calibration/h800.yaml."""
    found = calibrate(TRACES / "h800_train_trace.csv", TRACES / "published_gemm.csv")
    shipped = load_document(find_resource("calibration", "h800")).data
    _alike(found, shipped, "")


def _alike(found: Any, shipped: Any, where: str) -> None:
    if isinstance(found, dict):
        assert set(found) == set(shipped), where
        for key in found:
            _alike(found[key], shipped[key], f"{where}.{key}")
    elif isinstance(found, list):
        assert len(found) == len(shipped), where
        for i, (a, b) in enumerate(zip(found, shipped, strict=True)):
            _alike(a, b, f"{where}.{i}")
    elif isinstance(found, float):
        assert shipped == pytest.approx(found, rel=1e-3, abs=1e-9), where
    else:
        assert found == shipped, where


def test_every_figure_has_a_source(calibration: Calibration) -> None:
    curves = [
        *calibration.gemm.values(),
        *calibration.attention.values(),
        *calibration.memory.values(),
        *calibration.memory_kernels.values(),
        *calibration.alltoall.values(),
        calibration.collective,
    ]
    for provenance in [c.provenance for c in curves] + list(calibration.provenance.values()):
        assert provenance.source
        assert provenance.kind in ("measured", "published", "guess")
        if provenance.kind == "measured":
            assert provenance.rows > 0


def test_leave_one_out_errors_of_the_gemm_curves(calibration: Calibration) -> None:
    for (dtype, _), curve in calibration.gemm.items():
        if dtype == "fp8":
            assert curve.provenance.median_error is not None
            assert curve.provenance.max_error is not None
            assert curve.provenance.median_error < 0.04
            assert curve.provenance.max_error < 0.12


def test_drags_are_fractions_and_memory_suffers_most(calibration: Calibration) -> None:
    assert all(0 <= d < 0.5 for d in calibration.drag.values())
    assert calibration.drag["memory"] > calibration.drag["grouped_gemm"]
    assert calibration.drag["grouped_gemm"] > calibration.drag["gemm"]


def test_the_union_of_streams_counts_common_time_once() -> None:
    def row(start: float, dur: float) -> Row:
        return Row(start, dur, 7, 0, "", "", "", 0, 0, 0, 0, "", 0)

    assert union_us([row(0, 10), row(5, 10), row(20, 5)]) == 20
    assert union_us([row(0, 10), row(2, 3)]) == 10


def test_yaml_reads_back(tmp_path: Path) -> None:
    data = {"a": {"x": 1.5, "y": 'it\'s: "text"'}, "b": [{"k": 1, "z": 2e9}, {"k": 0.25}]}
    path = tmp_path / "x.yaml"
    path.write_text(to_yaml(data), encoding="utf-8")
    assert load_document(path).data == data


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("gpu: h800\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.yaml: not a calibration file: missing key"):
        load_calibration(path)
    with pytest.raises(InputError, match="did you mean 'h800'"):
        load_calibration("h80")
