import json

import pytest

from simdeep.spec.schedules import SCHEDULE_RULES


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


def test_all_schedules_on_equal_devices_and_with_equal_stages(cli, scenarios):
    given = ("--set", "layout.pp=2", "--set", "layout.vpp=1")
    found = json.loads(
        cli("compare", scenarios["moe"], *given, "--schedules", "all", "--json").stdout
    )
    assert [row["schedule"] for row in found["schedules"]] == list(SCHEDULE_RULES)
    for key in ("equal_devices", "equal_stages"):
        rows = {row["schedule"]: row for row in found[key] if row["supported"]}
        assert set(rows) == set(SCHEDULE_RULES)
        for row in rows.values():
            assert row["ranks" if key == "equal_devices" else "stages"] == 2
            assert row["stages"] == row["ranks"] * row["stages_per_rank"] // row["parameter_copies"]
            busy = [row["unit"]["makespan"] - idle for idle in row["unit"]["bubble"]]
            shares = max(1, row["stages_per_rank"] // row["parameter_copies"])
            microbatches = max(rows["gpipe"]["activation_shares"]["I"])
            per_rank = 1 if key == "equal_devices" else shares
            assert busy == pytest.approx([3 * microbatches * per_rank] * row["ranks"])
    devices = {row["schedule"]: row for row in found["equal_devices"]}
    assert devices["zb-v"]["unit"]["longest_rank_span"] < devices["1f1b"]["unit"]["makespan"]
    assert max(devices["dualpipe"]["parameter_shares"]) == 2
    assert max(devices["dualpipev"]["parameter_shares"]) == 1


def test_replays_with_stage_costs_come_close_to_the_simulation(cli, scenarios):
    found = json.loads(cli("compare", scenarios["moe"], "--schedules", "all", "--json").stdout)
    steps = {row["schedule"]: row["step_time_s"] for row in found["schedules"] if row["supported"]}
    replays = [row for row in found["equal_devices"] if row["supported"] and row["real"]]
    real = {row["schedule"]: row["real"]["makespan"] for row in replays}
    assert set(real) == set(steps)
    for name, makespan in real.items():
        assert 0.5 * steps[name] < makespan < 1.1 * steps[name], name  # without the step's end
