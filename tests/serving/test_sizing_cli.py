"""`simdeep size` in process: answers, files, exit codes."""

import json

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app

SMALL = ["--set", "size.unit_gpus=[2, 4]", "--set", "size.max_rows=[128]", "--quiet"]
SMALL += ["--set", "size.simulations=2", "--set", "size.requests=300"]
SMALL += ["--set", "size.chunk_tokens=2048", "--set", "size.spare=1"]


def size(*words):
    return CliRunner().invoke(app, ["size", "llama70b-serve-h100", *words])


def test_json_and_files(tmp_path):
    out = tmp_path / "sized"
    found = size(*SMALL, "--rate", "20/s", "--json", "--launch", "vllm", "--out", str(out))
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    winner = answer["winner"]
    assert winner["meets"]
    assert winner["slo_attainment"] >= 0.9
    space = answer["space"]
    judged = space["candidates_left"] + sum(space["candidates_dropped"].values())
    assert space["candidates"] == judged
    assert "vllm serve" in answer["launch"]
    names = {"sizing.json", "front.png", "candidates.png", "scenario.yaml", "launch.sh"}
    assert {path.name for path in out.iterdir()} == names
    again = CliRunner().invoke(app, ["run", str(out / "scenario.yaml"), "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["gpus"]


def test_tables_say_the_winner_and_why():
    found = size(*SMALL, "--rate", "20/s")
    assert found.exit_code == 0, found.output
    text = " ".join(found.stdout.split())
    for words in ("serve 20 requests/s", "Why it won", "Pareto front", "How the space was"):
        assert words in text


def test_exit_3_names_the_nearest():
    found = size(*SMALL, "--rate", "20/s", "--slo", "tpot=1ms")
    assert found.exit_code == 3
    assert "No deployment meets the goal" in found.stdout
    assert "a single row takes" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "1/s", "--gpus", "8"], ["both are given"]),
        ([], ["neither is given"]),
        (["--slo", "ttft=2", "--rate", "-1/s", "--gpu", "h80"], ["no unit", "greater", "h800"]),
    ],
)
def test_bad_input_in_one_message(words, said):
    found = size(*words)
    assert found.exit_code == 2
    assert all(text in found.stderr for text in said)
    assert found.stdout == ""
