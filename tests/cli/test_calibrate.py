"""`simdeep calibrate` and `simdeep validate gpu` from the command line."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import simdeep
from simdeep.cli.app import app
from simdeep.cost.calibration import load_calibration
from simdeep.errors import InputError

TORCH = importlib.util.find_spec("torch") is not None
MEASURED = Path(simdeep.__file__).parent / "data" / "calibration" / "measured"


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(app, [*map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.output
    return result


@pytest.mark.skipif(not TORCH, reason="measures with torch")
def test_cpu_end_to_end(tmp_path):
    out = tmp_path / "mine.yaml"
    shown = run("calibrate", "--device", "cpu", "--quick", "--json", "-o", out).stdout
    found = load_calibration(out)
    assert json.loads(shown)["gemm"][0]["dtype"] == "fp32"
    assert found.tiled["fp32", "fwd"].multiply_s > 0
    assert found.device["torch"] == importlib.import_module("torch").__version__
    assert found.attention_curve("fp32", "bwd").flops_per_sm > 0
    again = run("calibrate", "--rows", out.with_suffix(".csv"), "-o", tmp_path / "again.yaml")
    assert "layers left out" in again.stdout
    same = load_calibration(tmp_path / "again.yaml").tiled["fp32", "fwd"]
    # The rows keep nanoseconds, the file four digits.
    rate = found.tiled["fp32", "fwd"].multiply_s
    assert same.multiply_s == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("command", [["calibrate", "--device", "cpu"], ["validate", "gpu"]])
def test_without_torch_the_extra_is_named(command, monkeypatch):
    monkeypatch.setattr("simdeep.validate.torch_extra.find_spec", lambda name: None)
    assert "simdeep[torch]" in run(*command, code=2).stderr


@pytest.mark.skipif(not TORCH, reason="torch looks for the GPU")
@pytest.mark.parametrize("command", [["calibrate", "--device", "cuda"], ["validate", "gpu"]])
def test_without_a_gpu(command, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "GPU" in run(*command, code=2).stderr


def test_bad_rows(tmp_path):
    wrong = tmp_path / "rows.csv"
    wrong.write_text("a,b\n1,2\n")
    assert "cannot read" in run("calibrate", "--rows", wrong, code=2).stderr
    assert "cannot read" in run("calibrate", "--rows", tmp_path / "none.csv", code=2).stderr


@pytest.mark.skipif(not TORCH, reason="measures with torch")
def test_bad_procs(tmp_path):
    args = ["calibrate", "--device", "cpu", "--quick", "--procs", 99, "-o", tmp_path / "x.yaml"]
    assert "--procs: 99" in run(*args, code=2).stderr


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text("format: 99\ngpu: h100\n")
    with pytest.raises(InputError, match="format 99; this simdeep reads formats 1 and 2"):
        load_calibration(path)


def test_shipped_cpu_file_reads():
    found = load_calibration("cpu-xeon")
    assert found.device["device"]
    assert found.tiled["fp32", "fwd"].provenance.rows > 50
