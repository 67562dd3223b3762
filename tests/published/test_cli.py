"""`simdeep validate published` from the command line."""

import json

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app
from simdeep.published.cases import SHIPPED


@pytest.fixture
def few(tmp_path):
    """Four runs, one of them not expressible."""
    wanted = {
        "korthikanti-22B-full",
        "korthikanti-22B-layer-sp",
        "vtrain-39.1B-tp4-dp32-pp4-mb4",
        "zb-bubble-1.5B-m24-1f1b",
    }
    runs = [run for run in json.loads(SHIPPED.read_text("utf-8")) if run["id"] in wanted]
    runs = [run | {"id": run["id"]} for run in runs]
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(runs))
    return path


def invoke(*args):
    return CliRunner().invoke(app, ["validate", "published", *map(str, args)])


def test_json_has_every_run(few):
    result = invoke(few, "--json")
    plain = json.loads(result.stdout)
    assert result.exit_code == (0 if all(c["holds"] for c in plain["checks"]) else 4)
    assert set(plain) >= {"mape", "bias", "cases", "families", "fit_half", "test_half"}
    assert len(plain["cases"]) == 4
    by_id = {case["id"]: case for case in plain["cases"]}
    assert "one layer" in by_id["korthikanti-22B-layer-sp"]["reason"]
    case = by_id["vtrain-39.1B-tp4-dp32-pp4-mb4"]
    assert case["error"] == pytest.approx(case["predicted"] / case["measured"] - 1)
    assert plain["families"]["vtrain"]["n"] == 1


def test_tables_and_files(few, tmp_path):
    out = tmp_path / "out"
    result = invoke(few, "--family", "vtrain", "--out", out)
    assert "vtrain-39.1B-tp4-dp32-pp4-mb4" in result.stdout
    assert "must hold on the test half" in result.stdout
    assert {path.name for path in out.iterdir()} == {
        "published.json",
        "published.csv",
        "published.png",
        "scenarios.json",
    }


def test_an_unknown_family_names_the_nearest(few):
    result = invoke(few, "--family", "vtrian")
    assert result.exit_code == 2
    assert "did you mean vtrain?" in result.output


def test_a_file_that_is_not_there(tmp_path):
    assert invoke(tmp_path / "none.json").exit_code == 2


def test_exit_4_beyond_the_limits(few, tmp_path):
    runs = json.loads(few.read_text())
    run = next(run for run in runs if run["id"].startswith("vtrain"))
    wrong = [
        run | {"id": f"vtrain-{n}", "measured": {"iter_time": {"value": 9e9, "unit": "ms"}}}
        for n in range(3)
    ]
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(wrong))
    assert invoke(path).exit_code == 4
