import json
import re

import pytest

ISSUE_KEYS = {
    "step_time_s",
    "tokens_per_step",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "gpu_hours_per_ttoken",
    "days_per_ttoken",
    "usd_per_ttoken",
    "tflops_per_gpu",
    "tflops_per_gpu_causal",
    "mfu",
    "mfu_causal",
    "makespan_s",
    "bubble_s",
    "bubble_over_makespan",
    "bubble_over_ideal",
    "longest_rank_span_s",
    "bubble_closed_form_s",
    "exposed_comm_s",
    "comm_overlap",
    "parts_s",
    "memory",
    "engine",
    "scenario",
    "version",
    "fingerprint",
}

SECTIONS = (
    "Where the time goes",
    "What each effect contributes",
    "Pipeline bubble and communication",
    "Memory of the fullest rank",
    "Throughput and cost",
    "What shaped this answer",
)


def without_wall(text: str) -> str:
    document = json.loads(text)
    del document["engine"]["wall_s"]
    return json.dumps(document, sort_keys=True)


@pytest.fixture(scope="module")
def moe(cli, scenarios):
    return cli("run", scenarios["moe"])


@pytest.fixture(scope="module")
def moe_json(cli, scenarios):
    return cli("run", scenarios["moe"], "--json").stdout


def test_answer_comes_first_in_one_sentence(moe, moe_json):
    document = json.loads(moe_json)
    sentence = " ".join(moe.stdout.split("\n\n")[0].split())
    assert re.fullmatch(
        r"A step takes [\d.]+ m?s: [\d.]+ [KM]token/s, [\d.,]+ K? ?GPU-hours, [\d.,]+ days and "
        r"\$[\d.,]+ [KM] per trillion tokens on 16 H100 GPUs; it fits \([\d.]+ of [\d.]+ GiB\)\.",
        sentence,
    )
    assert f"({document['memory']['peak_gib']:.1f} of" in sentence


def test_tables_are_there_and_fit_100_columns(moe):
    places = [moe.stdout.index(section) for section in SECTIONS]
    assert places == sorted(places)
    assert max(map(len, moe.stdout.splitlines())) <= 100
    assert "\x1b" not in moe.stdout
    assert moe.stderr == ""


def test_json_has_the_promised_keys(moe_json):
    document = json.loads(moe_json)
    assert set(document) >= ISSUE_KEYS
    for key in ("bubble_s", "exposed_comm_s"):
        assert set(document[key]) == {"max", "min", "mean"}
    assert set(document["memory"]) >= {"fits", "capacity_gib", "peak_gib", "by_rank", "host_gib"}
    assert set(document["engine"]) == {"name", "tasks", "wall_s"}
    assert document["run"]["tokens"] == 2e12
    assert document["run"]["usd"] == pytest.approx(2 * document["usd_per_ttoken"])


def test_two_runs_are_identical_but_for_wall_time(cli, scenarios, moe_json):
    again = cli("run", scenarios["moe"], "--json").stdout
    lines = [(a, b) for a, b in zip(moe_json.split("\n"), again.split("\n"), strict=True) if a != b]
    assert all('"wall_s"' in a for a, _ in lines)
    assert len(lines) <= 1


def test_engines_give_the_same_answer(cli, scenarios, moe_json):
    reference = json.loads(cli("run", scenarios["moe"], "--engine", "reference", "--json").stdout)
    compiled = json.loads(moe_json)
    assert reference["engine"]["name"] == "reference"
    assert compiled["engine"]["name"] == "compiled"
    for document in (reference, compiled):
        del document["engine"], document["fingerprint"], document["scenario"]
    assert reference == compiled


def test_set_changes_a_value(cli, scenarios):
    def price(*args: str) -> float:
        return json.loads(cli("run", scenarios["dense"], "--json", *args).stdout)["usd_per_ttoken"]

    assert price("--set", "price.usd_per_gpu_hour=4") == pytest.approx(4 * price())


def test_a_pair_reports_its_phases(cli, scenarios):
    text = cli("run", scenarios["pair"]).stdout
    assert text.startswith("A forward beside a backward through 2 layers takes ")
    document = json.loads(cli("run", scenarios["pair"], "--json").stdout)
    assert list(document["phases"]) == sorted(
        ["attn_F", "attn_I", "attn_W", "mlp_F", "mlp_I", "mlp_W"]
    )
    assert set(document["transfers"]) == {"combine_B", "dispatch_F", "dispatch_B", "combine_F"}
    for transfer in document["transfers"].values():
        assert transfer["setup_ms"] > 0
        assert transfer["mean_ms"] > 0
    assert document["total_ms"] == pytest.approx(1e3 * document["makespan_s"])


def test_what_does_not_fit_says_what_would(cli, scenarios):
    heavy = ("--set", "train.recompute=none", "--set", "layout.zero=0")
    result = cli("run", scenarios["dense"], *heavy, "--json", code=3)
    assert json.loads(result.stdout)["memory"]["fits"] is False
    assert "It does not fit: rank" in result.stderr
    assert "optimizer state" in result.stderr
    assert "zb1p: at most 2 activation chunks, 1 parameter copy" in result.stderr
    # The best advice, followed, fits.
    lines = result.stderr.splitlines()
    best = next(i for i, line in enumerate(lines) if line.startswith("yes"))
    flags = re.findall(r"--set '?([\w.]+=[^\s']+)", lines[best + 1])
    assert flags
    given = [part for flag in flags for part in ("--set", flag)]
    fixed = json.loads(cli("run", scenarios["dense"], *heavy, *given, "--json").stdout)
    assert fixed["memory"]["fits"] is True


def test_what_cannot_fit_says_so(cli, scenarios):
    given = ("--set", "topology=toy-2x8", "--set", "train.comm_sms=2")
    result = cli("run", scenarios["moe"], *given, "--quiet", code=3)
    assert "it does NOT fit" in result.stdout
    assert "None of these changes is enough" in result.stderr
    assert " and " in result.stderr


def test_unfolded_runs_too(cli, scenarios):
    result = cli("run", scenarios["moe"], "--set", "simulate.fold=false", "--json")
    assert len(json.loads(result.stdout)["memory"]["by_rank"]) == 16
