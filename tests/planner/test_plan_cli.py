"""`simdeep plan` as a user runs it."""

import json

import pytest

from tests.cli.conftest import Cli

SMALL = ["--set", "plan.tp=[1,4]", "--set", "plan.pp=[2]", "--set", "plan.mbs=[1]", "-j", "1"]


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return Cli()


@pytest.fixture
def plan(run):
    return lambda name, *options, code=0: run("plan", f"{name}.yaml", *options, code=code)


def test_json_has_stable_keys(plan):
    found = plan("moe", *SMALL, "--json", "--launch", "megatron")
    document = json.loads(found.stdout)
    best = document["plans"][0]
    assert set(best["layout"]) == {"tp", "pp", "vpp", "cp", "ep", "dp", "zero", "mbs"}
    for key in ("schedule", "recompute", "comm_sms", "usd_per_ttoken", "mfu", "memory_peak_gib"):
        assert key in best
    assert best["step_time_s"] == min(p["step_time_s"] for p in document["plans"])
    assert sum(best["parts"].values()) == pytest.approx(best["step_time_s"])
    assert {"plans", "pareto", "pruned", "why", "sensitivity", "near"} <= set(document)
    assert set(document["pruned"]) == {"memory", "compute", "bubble", "communication"}
    booked = sum(document["pruned"].values()) + document["simulated"] + len(document["refused"])
    assert document["complete"]
    assert booked == document["space"]["candidates"]
    why = document["why"]["against_own"]
    assert why["seconds"] == pytest.approx(sum(why["parts_s"].values()))
    assert f"--pipeline-model-parallel-size {best['layout']['pp']}" in document["launch"]


def test_the_winner_runs_as_planned(plan, run):
    best = json.loads(plan("moe", *SMALL, "--json").stdout)["plans"][0]
    sets = [word for key, value in best["set"].items() for word in ("--set", f"{key}={value}")]
    again = json.loads(run("run", "moe.yaml", *sets, "--json").stdout)
    assert again["step_time_s"] == best["step_time_s"]
    assert again["mfu"] == best["mfu"]
    assert again["usd_per_ttoken"] == pytest.approx(best["usd_per_ttoken"])
    assert again["memory"]["peak_gib"] == best["memory_peak_gib"]


def test_text_says_why_and_how(plan, tmp_path):
    out = tmp_path / "out"
    found = plan("dense", *SMALL, "--launch", "torchtitan", "--out", str(out))
    for words in ("The best plans", "Why the first plan beats", "ruled out by", "(proved)"):
        assert words in found.stdout
    assert "pipeline_parallel_degree = 2" in found.stdout
    names = {"plan.json", "plan.png", "parts.png", "scenario.yaml", "launch.txt"}
    assert {path.name for path in out.iterdir()} == names


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["plan.tpp=[1]"], ["plan.tpp", "did you mean tp?"]),
        (["plan.tp=[]"], ["plan.tp", "at least 1"]),
        (["plan.schedule=[1f2b]"], ["plan.schedule", "1f1b"]),
        (["plan.zero=[4]"], ["plan.zero"]),
        (["simulate.fold=false"], ["simulate.fold"]),
    ],
)
def test_bad_input(plan, sets, words):
    found = plan("dense", *(word for text in sets for word in ("--set", text)), code=2)
    for word in words:
        assert word in found.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gpus", "many"], ["--gpus", "many"]),
        (["--gpu", "h8000"], ["--gpu", "did you mean h800"]),
        (["--deadline", "21"], ["--deadline", "unit"]),
    ],
)
def test_bad_options(plan, options, words):
    found = plan("dense", *options, code=2)
    for word in words:
        assert word in found.stderr


def test_no_legal_layout(plan):
    found = plan("dense", "--set", "plan.tp=[3]", "-j", "1", code=3)
    assert "no legal layout" in found.stdout
    assert "tp*cp*pp divides the GPUs" in found.stdout


def test_nothing_fits(plan):
    found = plan("dense", *SMALL, "--set", "plan.headroom_gib=79", code=3)
    assert "nothing fits into GPU memory" in found.stdout


def test_a_deadline_nobody_keeps(plan):
    found = plan("dense", *SMALL, "--deadline", "1h", code=3)
    assert "no plan keeps the deadline" in found.stdout


def test_several_clusters_are_ranked_by_dollars(plan):
    options = ("--gpu", "h100,h800", "--gpus", "8,16", *SMALL, "--json")
    document = json.loads(plan("dense", *options).stdout)
    assert document["objective"] == "usd"
    usd = [p["usd_per_ttoken"] for p in document["plans"]]
    assert usd == sorted(usd)
    assert len({(p["gpu"], p["gpus"]) for p in document["plans"]}) > 1
    alone = json.loads(plan("dense", "--gpus", "8", *SMALL, "--json").stdout)
    assert document["space"]["combinations"] == 4 * alone["space"]["combinations"]
    assert usd[0] <= alone["plans"][0]["usd_per_ttoken"]
