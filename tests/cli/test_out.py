"""`--out`: complete folders or none."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from simdeep.report import charts
from simdeep.spec.scenario import load_scenario

ALWAYS = {"pipeline.png", "time_by_rank.png", "block.png", "memory.png", "scenario.yaml"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(cli, scenarios, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "new" / "moe"
    result = cli("run", scenarios["moe"], "--out", out, "--json")
    assert str(out) in result.stderr
    assert json.loads((out / "result.json").read_text()) == json.loads(result.stdout)
    return out


def test_every_file_is_there(folder):
    extra = {"bubble_vs_microbatches.png", "result.json"}
    assert names(folder) - {"timeline.parquet", "timeline.csv"} == ALWAYS | extra
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert names(folder.parent) == {"moe"}


def test_the_timeline_has_a_row_for_each_task(folder):
    parquet = folder / "timeline.parquet"
    frame = (
        pd.read_parquet(parquet)
        if parquet.exists()
        else pd.read_csv(folder / "timeline.csv", keep_default_na=False)
    )
    document = json.loads((folder / "result.json").read_text())
    assert len(frame) == document["engine"]["tasks"]
    assert frame["end_ns"].max() / 1e9 == document["makespan_s"]


def test_the_resolved_scenario_runs_to_the_same_result(cli, scenarios, folder):
    again = load_scenario(folder / "scenario.yaml")
    assert again.fingerprint == load_scenario(scenarios["moe"]).fingerprint
    document = json.loads(cli("run", folder / "scenario.yaml", "--json").stdout)
    before = json.loads((folder / "result.json").read_text())
    assert document["step_time_s"] == before["step_time_s"]


def test_files_of_others_stay_and_own_ones_are_replaced(cli, scenarios, tmp_path):
    for name, text in (("notes.txt", "mine"), ("result.json", "old"), ("timeline.csv", "old")):
        (tmp_path / name).write_text(text)
    (tmp_path / "bubble_vs_microbatches.png").write_text("of another run")
    cli("run", scenarios["pair"], "--out", tmp_path, "--quiet")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "fb-pair"
    assert "bubble_vs_microbatches.png" not in names(tmp_path)
    assert len(names(tmp_path) & {"timeline.parquet", "timeline.csv"}) == 1
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_without_pyarrow_the_timeline_is_csv(cli, scenarios, tmp_path, monkeypatch):
    from simdeep.report import output

    monkeypatch.setattr(output, "_has_pyarrow", lambda: False)
    cli("run", scenarios["pair"], "--out", tmp_path / "run")
    assert "timeline.csv" in names(tmp_path / "run")


def test_a_file_in_the_way_exits_2(cli, scenarios, tmp_path):
    (tmp_path / "taken").write_text("mine")
    result = cli("run", scenarios["pair"], "--out", tmp_path / "taken", code=2)
    assert "file of that name" in result.stderr
    (tmp_path / "run" / "memory.png").mkdir(parents=True)
    result = cli("run", scenarios["pair"], "--out", tmp_path / "run", code=2)
    assert "memory.png" in result.stderr
    assert names(tmp_path / "run") == {"memory.png"}


def test_a_read_only_place_exits_2(cli, scenarios, tmp_path, monkeypatch):
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        result = cli("run", scenarios["pair"], "--out", tmp_path / "run", code=2)
    assert "--out" in result.stderr
    assert "Read-only file system" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_place_that_no_one_can_write_to_exits_2(cli, scenarios):
    assert "cannot write" in cli("run", scenarios["pair"], "--out", "/proc/run", code=2).stderr


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)]
)
def test_a_run_that_ends_early_leaves_nothing(cli, scenarios, tmp_path, monkeypatch, error, code):
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(charts, "memory_by_rank", fail)
    cli("run", scenarios["pair"], "--out", tmp_path / "run", code=code)
    assert names(tmp_path) == set()
    (tmp_path / "run").mkdir()
    cli("run", scenarios["pair"], "--out", tmp_path / "run", code=code)
    assert names(tmp_path / "run") == set()


def test_a_killed_run_leaves_nothing(scenarios, tmp_path):
    # Enough micro-batches that the run is still at work when it is killed.
    scenario = [scenarios["moe"], "--set", "train.gbs=2048"]
    command = [sys.executable, "-m", "simdeep.cli", "run", *scenario, "--out"]
    run = subprocess.Popen([*command, str(tmp_path / "run")], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not names(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    run.terminate()
    assert run.wait(timeout=60) == 143
    assert names(tmp_path) == set()


def test_two_runs_at_once(scenarios, tmp_path):
    command = [sys.executable, "-m", "simdeep.cli", "run", scenarios["pair"], "--out"]
    runs = [subprocess.Popen([*command, str(tmp_path / name)]) for name in ("a", "b")]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert names(tmp_path) == {"a", "b"}
    assert names(tmp_path / "a") == names(tmp_path / "b") >= ALWAYS
