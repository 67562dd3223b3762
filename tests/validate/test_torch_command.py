"""`simdeep validate schedule`."""

import json

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app
from simdeep.program.schedule import build_table, to_csv
from simdeep.validate import Outcome, StageGradient


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(app, ["validate", "schedule", *map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.output
    return result


def test_a_schedule_in_both_runtimes():
    shown = json.loads(run("zb1p", "--pp", 2, "--microbatches", 3, "--json").stdout)
    assert [one["runtime"] for one in shown["runs"]] == ["torch", "simdeep"]
    assert all(one["equal"] for one in shown["runs"])
    torch, ours = shown["runs"]
    assert torch["measured"] is None
    measured = ours["measured"]
    assert measured["cells"] == [[*map(str, row)] for row in build_table("zb1p", 2, 3).rows]
    assert [*map(len, measured["end_s"])] == [9, 9]
    assert sorted(measured["mean_s"]) == ["F", "I", "W"]
    assert max(map(max, measured["end_s"])) == measured["makespan_s"]


def test_a_file_and_a_table_torch_cannot_run(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(to_csv(build_table("dualpipe", 2, 4)))
    result = run(path)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mine: 2 stages on 2 processes, 2 copies of each stage, 4 micro")
    assert [line.split()[0] for line in lines if line.endswith(" equal")] == ["simdeep"]
    assert "makespan" in lines[-1] + lines[-2]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["dualpipe", "--runtime", "torch"], "holds each stage on 2 ranks"),
        (["dualpipe", "--pp", 3], "--pp: dualpipe needs an even number of ranks"),
        (["1f1b", "--pp", 40], "40 ranks would be as many processes"),
        (["1f2b"], "did you mean 1f1b"),
        (["none.csv"], "none.csv: cannot read"),
    ],
)
def test_wrong_requests(args, words):
    result = run(*args, code=2)
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_other_gradients_end_in_code_4(monkeypatch, form):
    def wrong(cases, size, timeout):
        gradients = (StageGradient(0, 0, float("inf"), "a"),)
        return tuple(Outcome(case, 1.0, 1.0, gradients, None) for case in cases)

    monkeypatch.setattr("simdeep.validate.run_cases", wrong)
    shown = run("1f1b", "--pp", 1, *form, code=4).stdout
    assert ('"gradient_error": null' if form else "DIFFERS") in shown
