import json

import pytest


@pytest.fixture(scope="module")
def compared(cli, scenarios):
    return json.loads(cli("compare", scenarios["moe"], "--json").stdout)


def test_each_schedule_is_the_run_of_its_own(cli, scenarios, compared):
    rows = {row["schedule"]: row for row in compared["schedules"]}
    assert list(rows) == ["1f1b", "zb1p", "dualpipe"]
    for name in ("1f1b", "dualpipe"):
        args = ("--json", "--set", f"train.schedule={name}")
        alone = json.loads(cli("run", scenarios["moe"], *args).stdout)
        for key in ("step_time_s", "bubble_s", "bubble_closed_form_s", "fingerprint"):
            assert rows[name][key] == alone[key]
        assert rows[name]["memory"]["peak_gib"] == alone["memory"]["peak_gib"]
    assert [rows[n]["parameter_copies"] for n in rows] == [1, 1, 2]
    assert "schedule" not in compared["scenario"]["train"]


def test_tables_name_the_fastest(cli, scenarios, compared):
    text = cli("compare", scenarios["moe"]).stdout
    fits = [row for row in compared["schedules"] if row["memory"]["fits"]]
    best = min(fits, key=lambda row: row["step_time_s"])
    assert text.startswith(f"{best['schedule']} is the fastest that fits: ")
    assert max(map(len, text.splitlines())) <= 100
    assert "(PP/2-1)(F&B+B-3W)" in text


def test_what_a_schedule_cannot_do_becomes_a_row(cli, scenarios):
    args = ("--set", "layout.pp=4", "--set", "layout.dp=4", "--set", "layout.ep=4")
    few = (*args, "--set", "train.gbs=16")
    rows = json.loads(cli("compare", scenarios["moe"], *few, "--json").stdout)["schedules"]
    assert [row["supported"] for row in rows] == [True, True, False]
    assert "micro-batches" in rows[2]["reason"]
    text = cli("compare", scenarios["moe"], *few).stdout
    assert "train.gbs is 16" in " ".join(text.split())


def test_what_none_can_do_is_bad_input(cli, scenarios):
    assert "layout.ep" in cli("compare", scenarios["moe"], "--set", "layout.ep=7", code=2).stderr
    assert "fb-pair" in cli("compare", scenarios["pair"], code=2).stderr
    result = cli("compare", scenarios["moe"], "--schedules", "1f1b,dualpip,poem", code=2)
    assert "did you mean dualpipe?" in result.stderr
    assert "poem" in result.stderr
    assert cli("compare", scenarios["moe"], "--schedules", ",", code=2).stdout == ""


def test_exit_3_if_none_fits(cli, scenarios):
    given = ("--set", "topology=toy-2x8", "--set", "train.comm_sms=2", "--schedules", "1f1b,zb1p")
    result = cli("compare", scenarios["moe"], *given, code=3)
    assert "the fastest, but none fits" in result.stdout
    assert "None of the schedules fits" in result.stderr


def test_out_writes_charts(cli, scenarios, tmp_path):
    out = tmp_path / "cmp"
    cli("compare", scenarios["moe"], "--schedules", "ZB-H1,1f1b,1f1b", "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "pipelines.png",
        "bubble_vs_microbatches.png",
        "scenario.yaml",
        "comparison.json",
    }
    rows = json.loads((out / "comparison.json").read_text())["schedules"]
    assert [row["schedule"] for row in rows] == ["zb1p", "1f1b"]
