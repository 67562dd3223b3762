import json

from simdeep.program.schedule import from_csv


def test_the_plan_of_a_scenario(cli, scenarios):
    plan = json.loads(cli("plan-schedule", scenarios["moe"], "--json").stdout)
    assert plan["fits"] is True
    assert [row["placement"] for row in plan["placements"]] == [
        "one stage a rank",
        "two directions",
    ]
    for row in plan["placements"]:
        assert row["lower_bound_s"] <= row["searched_makespan_s"]
        assert row["step_time_s"] <= row["best_published_step_time_s"]
    best = min(plan["placements"], key=lambda row: row["step_time_s"])
    assert (plan["placement"], plan["step_time_s"]) == (best["placement"], best["step_time_s"])
    table = from_csv("\n".join(",".join(row) for row in plan["rows"]))
    assert table.n_microbatches == 8


def test_tables_fit_the_console(cli, scenarios):
    text = cli("plan-schedule", scenarios["dense"]).stdout
    assert "Orders within" in text
    assert max(map(len, text.splitlines())) <= 100


def test_files(cli, scenarios, tmp_path):
    out = tmp_path / "plan"
    result = cli("plan-schedule", scenarios["dense"], "--out", out)
    assert "Wrote schedule.csv" in result.stderr
    names = ["plan.json", "scenario.yaml", "schedule.csv", "schedule.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    table = from_csv((out / "schedule.csv").read_text())
    assert (table.n_ranks, table.n_microbatches) == (2, 8)


def test_memory_that_nothing_fits_is_exit_3(cli, scenarios):
    result = cli("plan-schedule", scenarios["dense"], "--memory", 1, "--json", code=3)
    plan = json.loads(result.stdout)
    assert plan["fits"] is False
    assert plan["rows"] is None
    assert all(row["reason"] for row in plan["placements"])


def test_a_pair_is_bad_input(cli, scenarios):
    result = cli("plan-schedule", scenarios["pair"], code=2)
    assert "only training steps" in result.stderr
