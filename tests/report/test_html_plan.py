"""Reports of plans: just made, or read back from the JSON of `simdeep plan`."""

import json
from dataclasses import replace

import pytest

from simdeep.errors import InputError
from simdeep.planner.plan import make_plan
from simdeep.report.html import plan_page
from simdeep.report.inputs import inputs_of
from simdeep.report.plan_json import plan_json
from simdeep.report.plan_saved import read_plan
from simdeep.report.plan_tables import plan_tables
from simdeep.report.result_json import to_json
from simdeep.spec.scenario import load_training
from tests.cli.conftest import CLUSTER, Cli
from tests.report.browser import open_browser, sound_page
from tests.report.static import read_static

SCENARIO = """\
kind: train
model: llama-3.1-8b
topology: cluster.yaml
layout: {tp: 4, pp: 2, dp: 2, sp: true}
train: {schedule: 1f1b, seq_len: 1024, gbs: 16, recompute: full}
plan: {tp: [4, 8], pp: [1, 2], zero: [1], mbs: [1], schedule: [1f1b], recompute: [full], keep: 2}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "cluster.yaml").write_text(CLUSTER)
    (folder / "small.yaml").write_text(SCENARIO)
    return folder / "small.yaml"


@pytest.fixture(scope="module")
def planned(path):
    return make_plan(load_training(path))


@pytest.fixture(scope="module")
def saved(planned, path):
    target = path.parent / "plan.json"
    target.write_text(to_json(plan_json(planned, "--tp 4")))
    return target


def test_a_plan_page_holds_ranking_reasons_and_search(planned):
    page = read_static(plan_page(planned))
    assert page.fetched == ["data:,"]
    for part in plan_tables(planned):
        assert str(getattr(part, "plain", "")).strip() in page.said
    for title in ("The best plans", "Why the first plan beats the second", "The space"):
        assert title in page.said
    assert planned.scenario.fingerprint in page.said
    assert page.drawings == 2
    assert len(page.ids) == len(set(page.ids))


def test_the_same_search_gives_the_same_page(planned, path):
    assert plan_page(make_plan(load_training(path))) == plan_page(planned)


def test_a_saved_plan_reads_back_as_it_was(planned, saved):
    found = read_plan(saved)
    assert found.launch == "--tp 4"
    again = plan_json(found.result, found.launch, found.origin)
    assert json.loads(to_json(again)) == json.loads(saved.read_text())
    text, fresh = plan_page(found.result, "--tp 4", "0", found.origin), plan_page(planned)
    page = read_static(text)
    assert "--tp 4" in page.said
    assert planned.scenario.fingerprint in page.said
    shaped = fresh[fresh.index("What shaped this answer</h2>") : fresh.index("<footer>")]
    assert shaped in text
    for item in inputs_of(planned.plans[0].scenario):
        assert item.source in page.said


def test_a_plan_without_plans_says_why(planned):
    none = replace(planned, plans=(), pareto=(), near=(), effects=(), tightest="too large")
    page = read_static(plan_page(none))
    assert "No plan: too large." in page.said
    assert page.drawings == 0


def test_names_of_a_plan_cannot_become_markup(planned):
    odd = replace(planned, scenario=replace(planned.scenario, name="<img src=x>"))
    assert read_static(plan_page(odd)).fetched == ["data:,"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"version": "1"}', '{"plans": 3}'])
def test_another_json_is_no_plan(text, tmp_path):
    target = tmp_path / "other.json"
    target.write_text(text)
    with pytest.raises(InputError, match="is no plan"):
        read_plan(target)


def test_the_command_tells_kinds_apart(path, saved, tmp_path, monkeypatch):
    cli = Cli()
    monkeypatch.chdir(tmp_path)
    done = cli("report", saved.parent)
    assert done.stdout == ""
    assert "The best plans" in (tmp_path / "small-plan.html").read_text()
    cli("report", path, "-o", "made.html")
    assert "What shaped this answer" in (tmp_path / "made.html").read_text()
    serve = "llama70b-serve-h100"
    cli("report", serve, "--set", "window.duration=20 s", "--set", "window.warmup=5 s", "-q")
    assert "What users see" in (tmp_path / f"{serve}.html").read_text()
    cli(
        "report",
        "alltoall-deepep-normal",
        "--set",
        "alltoall.ep=16",
        "--set",
        "alltoall.tokens=128",
        "-o",
        "a.html",
    )
    assert "Traffic and port loads" in (tmp_path / "a.html").read_text()


def test_flags_that_change_nothing_are_refused(path, saved):
    cli = Cli()
    refused = cli("report", saved, "--set", "layout.pp=2", "--schedules", "1f1b", code=2)
    assert "--set" in refused.stderr
    assert "--schedules" in refused.stderr
    assert "--schedules" in cli("report", path, "--schedules", "1f1b", code=2).stderr
    assert "without scenario.yaml" in cli("report", path.parent.parent, code=2).stderr


def test_a_plan_page_in_a_browser(planned, tmp_path):
    with open_browser() as browser:
        sound_page(browser, tmp_path, plan_page(planned))
