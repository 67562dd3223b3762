"""`simdeep sweep` in process: answers, files, and what it refuses."""

import csv
import importlib.util
import json
import subprocess
import sys

import pytest

from simdeep.spec.resources import catalogue
from simdeep.sweep.axes import count_points
from simdeep.sweep.plan import Plan, own_sweep
from tests.sweep.conftest import SCENARIO, rows, sweep

IB = "topology.nic.bandwidth=5 GB/s:20 GB/s:2"


def document(*arguments):
    result = sweep(*arguments, "--json")
    assert result.exit_code in (0, 3), result.stderr
    return json.loads(result.stdout)


def refused(*arguments):
    result = sweep(*arguments)
    assert result.exit_code == 2, result.stdout
    assert result.stdout == ""
    return result.stderr


def test_a_point_is_what_run_says(folder):
    from simdeep.api import simulate
    from simdeep.spec.scenario import load_scenario

    found = document("tiny.yaml", "--vary", IB, "--vary", "train.gbs=16,32")
    assert [tuple(p["point"].values()) for p in found["points"]] == [
        ("5 GB/s", 16),
        ("5 GB/s", 32),
        ("20 GB/s", 16),
        ("20 GB/s", 32),
    ]
    changed = {"topology.nic.bandwidth": "20 GB/s", "train.gbs": "32"}
    alone = simulate(load_scenario("tiny.yaml", changed))
    last = found["points"][3]
    assert last["step_time_s"] == alone.step_time_s
    assert last["memory_peak_gib"] == alone.memory.peak_gib
    assert found["points"][0]["step_time_s"] > found["points"][2]["step_time_s"]
    assert found["counts"] == {
        "points": 4,
        "fits": 4,
        "does_not_fit": 0,
        "illegal": 0,
        "failed": 0,
    }
    assert found["best"]["usd_per_ttoken"] == min(p["usd_per_ttoken"] for p in found["points"])


def test_illegal_points_are_rows_with_their_reason(folder):
    found = document("tiny.yaml", "--vary", "layout.tp=3,4", "--vary", "train.gbs=16,17")
    statuses = [point["status"] for point in found["points"]]
    assert statuses == ["illegal", "illegal", "fits", "illegal"]
    assert "attention heads" in found["points"][0]["reason"]
    assert "such as 16" in found["points"][3]["reason"]
    assert len(rows(folder / "tiny.sweep.jsonl")) == 4
    text = sweep("tiny.yaml", "--vary", "layout.tp=3,4").stdout
    assert "1 can run, 1 are illegal" in text
    assert "illegal [1]" in text


def test_what_does_not_fit_is_a_row_and_exit_3_if_nothing_fits(folder):
    result = sweep("tiny.yaml", "--vary", "topology.gpu.hbm_capacity=8 GB,80 GB", "--json")
    assert result.exit_code == 0
    small, large = json.loads(result.stdout)["points"]
    assert (small["status"], large["status"]) == ("does_not_fit", "fits")
    assert "GiB of 7.5" in small["reason"]
    assert small["step_time_s"] == large["step_time_s"]
    assert sweep("tiny.yaml", "--vary", "topology.gpu.hbm_capacity=8 GB").exit_code == 3


def test_values_that_change_nothing_are_computed_once(folder):
    found = document("tiny.yaml", "--vary", "train.gbs=16,16.0,0x10,17")
    assert found["computed"] == 1
    assert [point["status"] for point in found["points"]] == ["fits", "illegal", "fits", "illegal"]


def test_a_rerun_computes_nothing_and_imports_no_engine(folder):
    flags = ("tiny.yaml", "--vary", "train.gbs=16,32")
    first = document(*flags)
    assert first["computed"] == 2
    code = (
        "import sys; from simdeep.cli import main; sys.argv = ['simdeep', 'sweep', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end\n"
        "heavy = ('numba', 'simpy', 'simdeep.api', 'joblib', 'matplotlib', 'pandas', 'torch')\n"
        "sys.exit(str([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *flags, "--json"], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    again = json.loads(done.stdout)
    assert again["computed"] == 0
    assert again["points"] == first["points"]


def test_another_sweep_uses_what_the_store_has(folder):
    document("tiny.yaml", "--vary", "train.gbs=16,32", "--store", "s.jsonl")
    found = document(
        "tiny.yaml", "--set", "train.gbs=32", "--vary", "simulate.seed=0,1", "--store", "s.jsonl"
    )
    assert found["computed"] == 1


def test_a_changed_scenario_is_computed_anew(folder):
    flags = ("tiny.yaml", "--vary", "train.gbs=16")
    assert document(*flags)["computed"] == 1
    (folder / "tiny.yaml").write_text(SCENARIO + "# a remark changes nothing\n")
    assert document(*flags)["computed"] == 0
    (folder / "tiny.yaml").write_text(SCENARIO.replace("1024", "2048"))
    assert document(*flags)["computed"] == 1


def test_a_scenario_carries_its_sweep(folder):
    section = "sweep:\n  vary:\n    train.gbs: [16, 32]\n    simulate.seed: '0:2:3'\n"
    (folder / "own.yaml").write_text(SCENARIO + section)
    assert document("own.yaml")["counts"]["points"] == 6
    assert document("own.yaml", "--set", "simulate.seed=0")["counts"]["points"] == 2
    assert document("own.yaml", "--vary", "train.gbs=16")["counts"]["points"] == 3
    broken = SCENARIO + "sweep:\n  vary:\n    train.gbs: []\n  z: 1\n"
    (folder / "own.yaml").write_text(broken)
    assert "own.yaml:9: sweep.z: unknown key" in refused("own.yaml")
    (folder / "own.yaml").write_text(broken.replace("  z: 1\n", ""))
    assert "own.yaml:8: train.gbs: has no values" in refused("own.yaml")


def test_files(folder):
    result = sweep(
        "tiny.yaml", "--vary", IB, "--vary", "train.gbs=16:48:3", "--out", "out", "--quiet"
    )
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (folder / "out").iterdir()}
    charts = {"lines.png", "heatmap.png", "pareto.png"}
    assert names == charts | {"sweep.jsonl", "sweep.json", "points.csv", "points.parquet"}
    with (folder / "out" / "points.csv").open() as file:
        table = list(csv.DictReader(file))
    answer = json.loads((folder / "out" / "sweep.json").read_text())
    assert [float(row["step_time_s"]) for row in table] == [
        point["step_time_s"] for point in answer["points"]
    ]
    import pandas as pd

    again = pd.read_parquet(folder / "out" / "points.parquet")
    assert list(again["topology.nic.bandwidth"]) == ["5 GB/s"] * 3 + ["20 GB/s"] * 3
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("flag", "near"),
    [
        ("train.comm_sm=8,20", "comm_sms"),
        ("topology.nic.bandwith=8 GB/s", "bandwidth"),
        ("topology.gpu.hbm_bandwith=3 TB/s", "hbm_bandwidth"),
        ("topology.gpu.peak.bf61=1 TFLOP/s", "bf16"),
        ("model.num_hidden_layer=8,16", "num_hidden_layers"),
    ],
)
def test_an_unknown_key_names_the_nearest(folder, flag, near):
    message = refused("tiny.yaml", "--vary", flag)
    key = flag.partition("=")[0]
    assert f"--vary {key}: {key}: unknown key; did you mean {near}?" in message
    assert not (folder / "tiny.sweep.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--vary", "train.gbs=1:9:0"), "empty range"),
        (("--vary", "train.gbs="), "has no values"),
        ((), "varies nothing"),
        (("--vary", "train.gbs=16", "--shard", "9/3"), "number/count"),
        (("--vary", "train.gbs=16", "--backend", "lokky"), "did you mean loky?"),
        (("--vary", "train.gbs=16", "--backend", "dask"), "needs --scheduler-file"),
        (("--vary", "train.gbs=16", "--backend", "dask", "--scheduler-file", "x"), "no such file"),
        (("--vary", "train.gbs=16", "--scheduler-file", "x"), "goes with --backend dask"),
        (("--vary", "train.gbs=16", "--store", "tiny.yaml"), "is no store"),
        (("--vary", "train.gbs=16", "--store", "."), "cannot open"),
        (("--vary", "train.gbs=17,19"), "multiple of dp*mbs"),
        (("--set", "train.gbs=x", "--vary", "simulate.seed=1,2"), "train.gbs"),
        (("--vary", "topology=h800-20489"), "did you mean 'h800-2048'"),
    ],
)
def test_bad_input(folder, flags, part):
    assert part in refused("tiny.yaml", *flags)


def test_jobs_must_be_some(folder):
    assert "--jobs: is 0" in refused("tiny.yaml", "--vary", "train.gbs=16", "--jobs", "0")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_must_be_installed(folder):
    assert "pip install ray" in refused("tiny.yaml", "--vary", "train.gbs=16", "--backend", "ray")


def test_a_missing_extra_is_named(folder, monkeypatch):
    monkeypatch.setattr("simdeep.sweep.backends.find_spec", lambda name: None)
    flags = ("--backend", "dask", "--scheduler-file", "tiny.yaml")
    assert "simdeep[cluster]" in refused("tiny.yaml", "--vary", "train.gbs=16", *flags)


def test_no_scheduler_behind_the_file(folder, monkeypatch):
    monkeypatch.setattr("simdeep.sweep.backends._CONNECT_S", 1)
    (folder / "s.json").write_text('{"address": "tcp://127.0.0.1:9"}')
    flags = ("--backend", "dask", "--scheduler-file", "s.json")
    assert "no dask cluster" in refused("tiny.yaml", "--vary", "train.gbs=16", *flags)


def test_a_failed_point_is_told_and_tried_again(folder, monkeypatch):
    import simdeep.api

    def fail(scenario, progress=None):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(simdeep.api, "simulate", fail)
        result = sweep("tiny.yaml", "--vary", "train.gbs=16", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["points"][0]["reason"] == "RuntimeError: broken"
    assert rows(folder / "tiny.sweep.jsonl") == []
    assert document("tiny.yaml", "--vary", "train.gbs=16")["computed"] == 1


def test_a_worker_with_another_simdeep_is_refused(folder):
    from simdeep.errors import SimdeepError
    from simdeep.sweep.evaluate import evaluate

    with pytest.raises(SimdeepError, match="install the same everywhere"):
        evaluate(None, "key", {}, "0")


READY = [name for name in catalogue("scenarios") if name.startswith("sweep-")]


def test_every_ready_sweep_has_a_scenario():
    wanted = {"gpus", "ib", "comm-sms", "node-limit", "topk", "llama-405b", "v3-ablation"}
    assert wanted <= {name.removeprefix("sweep-") for name in READY}


@pytest.mark.parametrize("name", READY)
def test_ready_sweeps_resolve(name):
    section, axes = own_sweep(name)
    found = Plan(name, {}, axes).points()
    assert len(found) == count_points(axes)
    assert sum(not point.reason for point in found) >= len(found) // 2
    assert section.x is None or section.x in {axis.key for axis in axes}


@pytest.mark.parametrize(
    ("name", "total", "active"),
    # arXiv 2412.19437 tables 4 and 5: total and activated parameters in billions.
    [("dsv3-ablation-15.7b", 15.7, 2.4), ("dsv3-ablation-228.7b", 228.7, 20.9)],
)
def test_ablation_models_have_the_published_sizes(name, total, active):
    from simdeep.spec.model import load_model, params

    count = params(load_model(name))
    assert round(count.total / 1e9, 1) == total
    assert count.active / 1e9 == pytest.approx(active, rel=0.03)
