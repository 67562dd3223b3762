import json

import pytest

from simdeep.program.schedule import build_table, from_csv
from simdeep.spec.schema import SCHEMAS


def fits_the_width(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 100


def test_a_model(cli):
    text = cli("show", "model", "deepseek-v3").stdout
    assert text.startswith("deepseek-v3 has 671 B parameters, of which a token uses ")
    assert "250.4 GFLOP" in text
    assert fits_the_width(text)
    document = json.loads(cli("show", "model", "deepseek-v3", "--json").stdout)
    assert document["params"]["total"] == 671_026_419_200
    assert document["train_flops_per_token_causal"] == pytest.approx(250e9, rel=0.01)


def test_a_topology(cli):
    text = cli("show", "topology", "h800-2048").stdout
    assert "2,048 in 256 nodes of 8" in text
    assert "160 GB/s" in text
    assert "arXiv 2412.19437" in text
    assert fits_the_width(text)
    document = json.loads(cli("show", "topology", "h800-2048", "--json").stdout)
    assert document["nic_bw"] == 50e9
    assert document["counts"]["nodes"] == 256


def test_a_layout_places_dualpipe_stages_on_two_ranks(cli, scenarios):
    text = cli("show", "layout", scenarios["moe"]).stdout
    assert "0 and 1" in text
    assert fits_the_width(text)
    document = json.loads(cli("show", "layout", scenarios["moe"], "--json").stdout)
    assert [stage["pipeline_ranks"] for stage in document["stages"]] == [[0, 1], [1, 0]]
    assert document["groups"]["ep"] == {"size": 8, "nodes": 1, "ranks_per_node": 8}
    assert "NVLink" in text


def test_a_layout_of_a_pair_has_no_stages(cli, scenarios):
    assert "Pipeline stages" not in cli("show", "layout", scenarios["pair"]).stdout


@pytest.mark.parametrize("what", ["model", "topology", "layout"])
def test_a_wrong_name_exits_2(cli, what):
    assert "no shipped" in cli("show", what, "nonesuch", code=2).stderr


def test_a_schedule_as_csv_reads_back(cli):
    text = cli("show", "schedule", "zb1p", "--pp", 4, "--microbatches", 8, "--format", "csv").stdout
    assert from_csv(text, name="zb1p").rows == build_table("zb1p", 4, 8).rows


def test_a_schedule_as_json(cli):
    args = ("--pp", 8, "-m", 20, "--costs", "f=1,i=1,w=0.5,fb=2.2", "--format", "json")
    document = json.loads(cli("show", "schedule", "dualpipe", *args).stdout)
    # (PP/2 - 1)(F&B + B - 3W) of arXiv 2412.19437, table 2.
    assert document["closed_form"]["bubble"] == pytest.approx(3 * (2.2 + 1.5 - 1.5))
    assert max(document["bubble"]) == pytest.approx(document["closed_form"]["bubble"])
    assert document["closed_form"]["unmet"] == []
    assert max(document["peak_activations"]["I"]) == 9


def test_a_schedule_as_a_grid(cli):
    text = cli("show", "schedule", "1f1b", "--pp", 2, "--microbatches", 2).stdout
    assert text.startswith("rank 0 | F0 F1 .  .  B0--- .  B1---\n")
    assert "bubble (PP-1)(F+B) = 3" in text
    assert fits_the_width(cli("show", "schedule", "dualpipe", "--pp", 8).stdout)
    slow = cli("show", "schedule", "1f1b", "--pp", 2, "--costs", "p2p=1").stdout
    assert "broken here: free transfers" in " ".join(slow.split())


def test_a_schedule_into_files(cli, tmp_path):
    grid, png = tmp_path / "grid.txt", tmp_path / "dualpipe.png"
    result = cli("show", "schedule", "dualpipe", "-o", grid)
    assert result.stdout == ""
    assert grid.read_text().count("\nrank ") == 7  # one line a rank, however long
    cli("show", "schedule", "dualpipe", "--format", "png", "-o", png)
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["dualpipe", "--pp", "3"], "--pp: dualpipe needs an even number"),
        (["dualpip"], "did you mean dualpipe?"),
        (["1f1b", "--vpp", "2"], "--vpp"),
        (["1f1b", "--costs", "f=fast"], "--costs: f=fast"),
        (["1f1b", "--costs", "g=1"], "no cost 'g'"),
        (["1f1b", "--costs", "w=-1"], "zero or more"),
        (["1f1b", "--costs", "w=nan"], "zero or more"),
        (["1f1b", "--format", "png"], "-o FILE.png"),
        (["1f1b", "--format", "png", "-o", "x.txt"], "ends in .png"),
        (["1f1b", "-o", "/nonexistent/x"], "cannot write"),
    ],
)
def test_bad_schedules_exit_2(cli, args, text):
    assert text in cli("show", "schedule", *args, code=2).stderr


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_schemas(cli, kind):
    assert json.loads(cli("schema", kind).stdout) == SCHEMAS[kind]()


def test_the_default_schema_is_the_scenarios(cli):
    assert json.loads(cli("schema").stdout)["title"] == "simdeep scenario"
