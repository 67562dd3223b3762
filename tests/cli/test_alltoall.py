"""`simdeep alltoall` and `simdeep collectives`: tables, JSON, charts, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from simdeep.cli.collectives import read_sizes
from simdeep.errors import InputError
from simdeep.report.alltoall_files import FILES

ROW = {
    "direction",
    "ep",
    "nodes",
    "tokens_per_gpu",
    "comm_sms",
    "mode",
    "time_us",
    "ib_bytes_per_gpu",
    "nvlink_bytes_per_gpu",
    "ib_gbps_logical",
    "ib_gbps_physical",
    "nvlink_gbps",
    "bottleneck",
    "nodes_per_token",
    "max_over_mean_load",
}
QUICK = ("--ep", 16, "--tokens", 256)

TOY = """\
gpu: toy
gpus: 16
gpus_per_node: 8
nvlink: {bandwidth: 100 GB/s}
nic: {bandwidth: 10 GB/s}
fabric:
  kind: edge-list
  edges:
    - {ends: [nic 0-7, switch 0]}
    - {ends: [nic 8-15, switch 1]}
usd_per_gpu_hour: 1.0
"""


def fits_the_width(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 100


def test_the_rows_have_exactly_these_keys(cli):
    document = json.loads(cli("alltoall", *QUICK, "--json").stdout)
    assert [row["direction"] for row in document["rows"]] == ["dispatch", "combine"]
    assert all(set(row) == ROW for row in document["rows"])
    row = document["rows"][0]
    assert (row["ep"], row["nodes"], row["tokens_per_gpu"], row["comm_sms"]) == (16, 2, 256, 20)
    assert row["ib_gbps_logical"] > row["ib_gbps_physical"] > 0
    assert document["setting"]["topology"] == "h800-2048"
    assert document["details"][0]["hot_links"][0]["utilisation"] <= 1
    assert len(document["details"][0]["finish_us"]) == 16


def test_the_tables(cli):
    text = cli("alltoall", *QUICK, "--routing", "zipf:0.8").stdout
    assert text.startswith("A dispatch takes ")
    for words in ("NVLink bytes", "IB bandwidth, logical", "bottleneck", "Hot ports", "zipf:0.8"):
        assert words in text
    assert fits_the_width(text)


def test_the_same_command_gives_the_same_answer(cli):
    args = ("alltoall", *QUICK, "--routing", "0.2", "--ecmp", "hashed", "--seed", 3, "--json")
    assert cli(*args).stdout == cli(*args).stdout
    assert cli(*args).stdout != cli(*args, "--seed", 4).stdout


def test_low_latency_holds_no_sms(cli):
    args = (*QUICK, "--mode", "low-latency", "--placement", "eplb", "--redundant", 16)
    (row, _) = json.loads(cli("alltoall", *args, "--json").stdout)["rows"]
    assert (row["mode"], row["comm_sms"]) == ("low-latency", 0)
    assert "every (token, expert) pair" in cli("alltoall", *args).stdout


@pytest.mark.parametrize(
    "name", ["alltoall-deepep-normal", "alltoall-decode-ep320", "alltoall-skewed-replicas"]
)
def test_shipped_scenarios(cli, name):
    text = cli("alltoall", name, "--set", "alltoall.tokens=64").stdout
    assert "64 tokens a GPU" in " ".join(text.split())


def test_a_training_scenario(cli, scenarios):
    document = json.loads(cli("alltoall", scenarios["moe"], "--json").stdout)
    setting = document["setting"]
    assert (setting["model"], setting["ep"], setting["comm_sms"]) == ("deepseek-v2-lite", 8, 16)
    assert document["rows"][0]["bottleneck"] in ("nvlink", "sm")
    assert "no experts" in cli("alltoall", scenarios["dense"], code=2).stderr


def test_charts_and_files(cli, tmp_path):
    out = tmp_path / "new" / "folder"
    result = cli("alltoall", *QUICK, "--out", out, "--json")
    assert {path.name for path in out.iterdir()} == set(FILES)
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    document = json.loads((out / "alltoall.json").read_text())
    assert document == json.loads(result.stdout)
    assert {p["ep"] for p in document["time_vs_ep"]} >= {8, 16, 32}
    assert [p["max_nodes"] for p in document["node_limit"]] == list(range(1, 9))
    assert document["experts_per_node_within_ib_time"] == 3.2


def test_charts_of_low_latency_and_of_one_node(cli, tmp_path):
    low = ("--mode", "low-latency")
    cli("alltoall", *QUICK, *low, "--out", tmp_path / "low", "--quiet")
    assert "time_vs_sms.png" not in {path.name for path in (tmp_path / "low").iterdir()}
    one = ("--ep", 8, "--tokens", 64, "--topology", "toy-2x8", "--model", "mixtral-8x7b")
    cli("alltoall", *one, "--comm-sms", 4, "--out", tmp_path / "one", "--quiet")
    assert (tmp_path / "one" / "traffic_combine.png").exists()


# --- bad input: one clear message, exit code 2 ------------------------------------------------
def refused(cli, *args) -> str:
    result = cli(*args, code=2)
    assert result.stdout == ""
    assert "Error" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--ep", 63], "--ep: is 63; must be a multiple of the 8 GPUs of a node"),
        (["--ep", 4096], "--ep: is 4096, but h800-2048 has only 2048 GPUs"),
        (["--ep", 320], "redundant 64 does"),
        (["--comm-sms", 1], "--comm-sms: is 1; normal kernels need at least 2"),
        (["--max-nodes", 0], "--max-nodes: is 0; must be at least 1"),
        (["--tokens", 0], "--tokens: is 0"),
        (["--routing", "zap:1"], "--routing: routing skew 'zap:1'"),
        (["--routing", "h800-trace-loads"], "loads of one rank"),
        (["--routing", "no/such.npz"], "no such file"),
        (["--placement", "round-robin"], "--placement: 'round-robin' is no file"),
        (["--redundant", 64], "--redundant: is 64, but contiguous experts have no replicas"),
        (["--topology", "h800"], "--topology: 'h800' is no shipped topology"),
        (["--model", "llama-3.1-8b"], "--model: llama-3.1-8b has no experts"),
        (["--set", "alltoall.ep=8"], "--set: changes a scenario; name one"),
    ],
)
def test_bad_flags(cli, args, words):
    assert words in refused(cli, "alltoall", *args)


def test_a_disconnected_topology(cli, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    message = refused(cli, "alltoall", "--topology", path, *QUICK)
    assert "disconnected: no way between gpu 8-15 and gpu 0-7" in message


def test_a_gpu_that_is_down(cli, tmp_path):
    whole = TOY.replace("switch 1]}", "switch 0]}")
    path = tmp_path / "toy.yaml"
    path.write_text(whole + "overrides: [{element: gpu 3, down: true}]\n")
    args = ("--topology", path, *QUICK, "--comm-sms", 4)
    assert "gpu 3 is down" in refused(cli, "alltoall", *args)


@pytest.mark.parametrize("port", ["nic", "nvlink"])
def test_zero_bandwidth(cli, tmp_path, port):
    path = tmp_path / "toy.yaml"
    value = {"nic": "10 GB/s", "nvlink": "100 GB/s"}[port]
    path.write_text(TOY.replace(value, "0 GB/s"))
    message = refused(cli, "alltoall", "--topology", path, *QUICK)
    assert f"{port}.bandwidth" in message
    assert "greater than zero" in message


def test_experts_that_are_not_placed(cli, tmp_path):
    path = tmp_path / "experts.yaml"
    ranks = [[16 * r + i for i in range(16)] for r in range(16)]
    ranks[15].pop()
    path.write_text(json.dumps({"ranks": ranks}))
    message = refused(cli, "alltoall", *QUICK, "--placement", path)
    assert f"{path}: ranks: expert 255 of 256 is not placed on any rank" in message
    ranks[15].append(256)
    path.write_text(json.dumps({"ranks": ranks}))
    message = refused(cli, "alltoall", *QUICK, "--placement", path)
    assert "rank 15 is given expert 256; experts are 0 to 255" in message
    path.write_text(json.dumps({"ranks": ranks[:8]}))
    assert "on 8 ranks; the group has 16" in refused(cli, "alltoall", *QUICK, "--placement", path)


@pytest.fixture
def trace(tmp_path):
    def write(experts: list[list[int]]) -> Path:
        path = tmp_path / "trace.npz"
        rows = len(experts)
        np.savez(
            path,
            layer=np.full(rows, 3),
            token=np.arange(rows),
            experts=np.array(experts),
            n_experts=np.int64(256),
        )
        return path

    return write


def test_a_trace_with_an_expert_that_does_not_exist(cli, trace):
    path = trace([list(range(8)), [0, 1, 2, 3, 4, 5, 6, 256]])
    message = refused(cli, "alltoall", *QUICK, "--routing", path)
    assert "row 1 (layer 3, token 1) names experts 0, 1, 2, 3, 4, 5, 6, 256" in message
    assert "experts are 0 to 255" in message


def test_a_trace_with_a_repeated_expert(cli, trace):
    path = trace([[0, 1, 2, 3, 4, 5, 6, 6]])
    message = refused(cli, "alltoall", *QUICK, "--routing", path)
    assert "a token has each of its experts once" in message


def test_a_trace_with_another_number_of_experts(cli, trace):
    message = refused(cli, "alltoall", *QUICK, "--routing", trace([[0, 1, 2]]))
    assert "tokens have 3 experts; deepseek-v3 takes 8" in message


def test_a_scenario_says_every_problem_at_once(cli, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "kind: alltoall\nmodel: deepseek-v3\ntopology: h800-2048\n"
        "alltoall: {ep: 0, mode: fast, tokns: 3}\nrouting: {kind: recorded}\n"
    )
    message = refused(cli, "alltoall", path)
    assert message.startswith("simdeep: 4 problems")
    for words in ("alltoall.ep", "alltoall.mode", "did you mean tokens", "routing.file"):
        assert words in message


# --- collectives ------------------------------------------------------------------------------
def test_collectives_print_as_nccl_tests(cli):
    text = cli("collectives", "all_reduce", "--gpus", 16, "--sizes", "1M:1G:32").stdout
    lines = text.splitlines()
    assert lines[0].startswith("#         size  op")
    assert [int(line.split()[0]) for line in lines[2:]] == [1 << 20, 1 << 25, 1 << 30]


def test_busbw_is_that_of_nccl_tests(cli):
    args = ("--gpus", 16, "--sizes", "64M", "--algorithm", "ring", "--json")
    (row,) = json.loads(cli("collectives", "all_reduce", *args).stdout)["rows"]
    assert set(row) == {
        "operation",
        "algorithm",
        "size_bytes",
        "ranks",
        "time_us",
        "algbw_gbps",
        "busbw_gbps",
        "busiest_link",
    }
    assert row["algbw_gbps"] == pytest.approx(row["size_bytes"] / row["time_us"] / 1e3)
    assert row["busbw_gbps"] == pytest.approx(row["algbw_gbps"] * 2 * 15 / 16)


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter", "all_to_all", "send"])
def test_other_collectives(cli, operation):
    args = ("--topology", "toy-2x8", "--sizes", "1M", "--ideal", "--json")
    (row,) = json.loads(cli("collectives", operation, *args).stdout)["rows"]
    assert 0 < row["busbw_gbps"] <= 100


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--gpus", 1], "--gpus: is 1; must be 2 to the 2048"),
        (["--sizes", "0:1M"], "no size above 0"),
        (["--sizes", "1G:1M"], "the first size is larger"),
        (["--sizes", "1M:1G:1"], "must be a number above 1"),
        (["--sizes", "1M:1G:1.0001"], "more than 64 sizes"),
        (["--sizes", "x"], "no size above 0"),
        (["--sizes", "1:2:3:4"], "FIRST:LAST"),
        (["--topology", "none"], "no shipped topology"),
        (["--algorithm", "direct"], "cannot be done by 'direct'"),
    ],
)
def test_bad_collectives(cli, args, words):
    assert words in refused(cli, "collectives", "all_reduce", *args)


def test_sizes():
    assert read_sizes("1K:4K") == [1024, 2048, 4096]
    assert read_sizes("8") == [8]
    assert read_sizes("1M:1G:1024") == [1 << 20, 1 << 30]
    with pytest.raises(InputError):
        read_sizes("1M:-1")


@pytest.mark.parametrize("command", ["alltoall", "collectives"])
def test_commands_are_in_the_help(cli, command):
    assert f"\n  {command} " in cli("--help").stdout
    assert "Usage: " in cli(command, "--help").stdout


def test_a_topology_shows_what_its_fabric_costs(cli):
    text = cli("show", "topology", "h800-2048").stdout
    assert "Fabric: switches, links between them, and cost" in text
    rows = json.loads(cli("show", "topology", "h800-2048", "--json").stdout)["fabric_cost"]
    assert [r["name"] for r in rows] == ["h800-2048", "FT2", "MPFT", "FT3", "SlimFly", "Dragonfly"]
    for row in rows[1:]:
        assert row["cost_musd"] == pytest.approx(row["published_cost_musd"], rel=0.02)
