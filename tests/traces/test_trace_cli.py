"""`simdeep trace` on files and scenarios, in process."""

import json

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app


def call(*args):
    return CliRunner().invoke(app, ["trace", *map(str, args)])


def test_export_then_import_says_the_same_as_the_run(tmp_path):
    path = tmp_path / "pair.json.gz"
    assert call("export", "dsv3-fb-pair-h800", "-o", path, "-q").exit_code == 0
    found = json.loads(call("import", path, "--json").stdout)
    run = CliRunner().invoke(app, ["run", "dsv3-fb-pair-h800", "--json"])
    said = json.loads(run.stdout)
    assert found["makespan_ns"] == round(said["makespan_s"] * 1e9)
    assert found["comm_overlap"] == said["comm_overlap"]
    parts = {part: round(values[0] * 1e9) for part, values in said["parts_s"].items()}
    assert {row["part"]: row["ns"] for row in found["by_part_ns"]} == {
        part: value for part, value in parts.items() if value
    }


def test_the_published_trace_beside_the_simulated_pair(tmp_path):
    out = tmp_path / "diff"
    done = call("diff", "h800_train_trace", "dsv3-fb-pair-h800", "--out", out)
    assert done.exit_code == 0
    assert "attn(F)" in done.stdout
    assert sorted(p.name for p in out.iterdir()) == [
        "diff.json",
        "phases.csv",
        "phases.png",
        "timelines.png",
    ]
    rows = json.loads((out / "diff.json").read_text(encoding="utf-8"))["phases"]
    assert len(rows) == 10
    # What the calibrated pair promises of phases and transfers.
    assert all(abs(row["ratio"]) < 0.1 for row in rows)


def test_import_writes_its_spans(tmp_path):
    done = call("import", "h800_train_trace", "--out", tmp_path / "o")
    assert done.exit_code == 0
    assert "983 spans" in done.stdout
    lines = (tmp_path / "o" / "spans.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 984


def test_a_file_for_each_rank_and_some_ranks(tmp_path):
    assert call("export", "toy-dense", "-o", tmp_path / "ranks", "--split", "-q").exit_code == 0
    names = sorted(p.name for p in (tmp_path / "ranks").iterdir())
    assert names == sorted(f"rank-{r}.json.gz" for r in range(len(names)))
    one = tmp_path / "one.json"
    assert call("export", "toy-dense", "-o", one, "--ranks", "0-1", "-q").exit_code == 0
    pids = {e["pid"] for e in json.loads(one.read_text(encoding="utf-8"))["traceEvents"]}
    assert pids == {0, 1}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["export", "toy-dense", "-o", "x.txt"], ".json or .json.gz"),
        (["export", "toy-dense", "-o", "x.json", "--ranks", "9999"], "ascending"),
        (["export", "toy-dense", "-o", "x.json", "--ranks", "a"], "no rank"),
        (["export", "toy-dense", "-o", "/proc/none/x.json"], "cannot write"),
        (["import", "none.json"], "no such file"),
        (["diff", "h800_train_trace", "no-such-scenario"], "no-such-scenario"),
    ],
)
def test_bad_input(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
