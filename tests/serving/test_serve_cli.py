"""`simdeep run` on serving scenarios, in process."""

import json

import pandas as pd
import pytest

from simdeep.serving.requests.example import EXAMPLE, example_rows, example_text

SMALL = """\
kind: serve
model: deepseek-v2-lite
topology: h100-512
deployment:
  mixed: {tp: 1, dp: 2, ep: 2, units: 2, chunk_tokens: 512, max_rows: 32}
traffic:
  rate: 4/s
  input: {mean: 200, cv: 1, max: 1000}
  output: {mean: 40, cv: 1, max: 200}
slo: {ttft: 10 s, tpot: 1 s}
window: {duration: 20 s, warmup: 5 s}
"""

SPLIT = SMALL.replace(
    "mixed: {tp: 1, dp: 2, ep: 2, units: 2, chunk_tokens: 512, max_rows: 32}",
    "prefill: {tp: 1, dp: 2, ep: 2, units: 1, chunk_tokens: 512}\n"
    "  decode: {tp: 1, dp: 2, ep: 2, units: 2, max_rows: 32}",
)

KEYS = {
    "ttft_ms",
    "tpot_ms",
    "e2e_ms",
    "input_tokens_per_s_per_node",
    "output_tokens_per_s_per_node",
    "goodput_rps",
    "slo_attainment",
    "usd_per_mtok_input",
    "usd_per_mtok_output",
    "gpus",
    "kv_occupancy",
    "limits",
    "utilisation",
    "sampling_error_95",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("serve")
    (made / "mixed.yaml").write_text(SMALL)
    (made / "split.yaml").write_text(SPLIT)
    return made


def test_json_has_the_promised_keys(cli, folder):
    document = json.loads(cli("run", folder / "split.yaml", "--json").stdout)
    assert set(document) >= KEYS
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        assert set(document[name]) >= {"p50", "p90", "p99"}
        assert 0 < document[name]["p50"] <= document[name]["p90"] <= document[name]["p99"]
    assert set(document["gpus"]) == {"prefill", "decode"}
    assert document["gpus"] == {"prefill": 2.0, "decode": 4.0}
    assert document["slo_attainment"] == 1.0
    assert document["slo_attainment_by_promise"] == {"ttft": 1.0, "tpot": 1.0}
    assert document["requests_per_s"] == pytest.approx(4, rel=0.3)
    assert all(0 <= share <= 1 for share in document["utilisation"].values())
    hours = document["usd_per_hour"]
    tokens = 3600 * document["input_tokens_per_s"] / 1e6 * document["usd_per_mtok_input"]
    tokens += 3600 * document["output_tokens_per_s"] / 1e6 * document["usd_per_mtok_output"]
    assert tokens == pytest.approx(hours)


def test_engines_and_runs_give_the_same(cli, folder):
    short = ("--set", "window.duration=5 s", "--set", "window.warmup=1 s", "--json")
    found = []
    for engine in ("compiled", "reference"):
        text = cli("run", folder / "split.yaml", *short, "--engine", engine).stdout
        document = json.loads(text)
        for key in ("engine", "scenario", "fingerprint"):
            del document[key]
        found.append(document)
    assert found[0] == found[1]


def test_the_answer_and_its_files(cli, folder):
    out = folder / "out"
    result = cli("run", folder / "mixed.yaml", "--out", out)
    assert " GPUs serve " in " ".join(result.stdout.split())
    assert "The SLO is met: 100.0% of the requests keep it" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 100
    names = {path.name for path in out.iterdir()}
    assert names >= {"latency.png", "queues.png", "batches.png", "kv.png", "utilisation.png"}
    frame = pd.read_parquet(out / "requests.parquet")
    done = frame[frame.finish_ns >= 0]
    assert (done.delivered == done.output_tokens).all()
    again = cli("run", out / "scenario.yaml", "--json").stdout
    document, other = json.loads(again), json.loads((out / "result.json").read_text())
    for each in (document, other):
        del each["engine"], each["name"], each["fingerprint"]
    assert document == other


def test_a_missed_slo_is_exit_3(cli, folder):
    result = cli("run", folder / "mixed.yaml", "--set", "slo.ttft=1 us", code=3)
    assert "The SLO is NOT met: 0.0% of the requests keep it" in " ".join(result.stdout.split())
    assert "the first token within 1.00 us: 0.0%, 1.00 s a token: 100.0%" in result.stderr


def test_a_day_is_sampled_by_the_hour(cli, folder):
    shares = "[" + ", ".join(["1.0", "0.0", "0.5"] * 8) + "]"
    sets = {
        "traffic.by_hour": shares,
        "window.day": "true",
        "window.duration": "4 s",
        "window.warmup": "1 s",
        "autoscale": "{headroom: 0.1, min_share: 0.5, start: 360 s}",
    }
    given = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    document = json.loads(cli("run", folder / "mixed.yaml", *given, "--json").stdout)
    windows = document["windows"]
    assert [w["hour"] for w in windows] == list(range(24))
    assert windows[1]["figures"] is None
    assert document["requests_per_s"] == pytest.approx(2.0, rel=0.3)
    assert document["gpus"]["mixed"] == pytest.approx(2.0, rel=0.2)  # half of the units suffice


def test_units_may_follow_a_plan(cli, folder):
    sets = {
        "traffic.by_hour": "[" + ", ".join(["0.2"] * 24) + "]",
        "window.day": "true",
        "window.duration": "4 s",
        "window.warmup": "1 s",
        "autoscale": "{plan: [{hour: 1.25, mixed: 1}, {hour: 2, mixed: 2}, "
        "{hour: 23.5, mixed: 1}]}",
    }
    given = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    document = json.loads(cli("run", folder / "mixed.yaml", *given, "--json").stdout)
    hours = {w["hour"]: w["units"]["mixed"] for w in document["windows"]}
    assert len(hours) == 26
    assert [hours[h] for h in (0, 1, 1.25, 2, 22, 23, 23.5)] == [1, 1, 1, 2, 2, 2, 1]
    # Two units from 2:00 to 23:30, one else, each of two GPUs; a plan has all that is paid for.
    assert document["gpus"]["mixed"] == pytest.approx(2 * (2 * 21.5 + 2.5) / 24)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("[{hour: 2, mixed: 3}]", "is 3; the deployment has 2"),
        ("[{hour: 2, decode: 1}]", "there are no decode units"),
        ("[{hour: 2, mixed: 1}, {hour: 1, mixed: 2}]", "each must be later than the last"),
        ("[{hour: 24, mixed: 1}]", "less than 24"),
    ],
)
def test_bad_plans_are_exit_2(cli, folder, plan, message):
    sets = ("--set", "traffic.by_hour=[" + ", ".join(["1"] * 24) + "]")
    result = cli("run", folder / "mixed.yaml", *sets, "--set", f"autoscale.plan={plan}", code=2)
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("window.duration=1 us",), "nothing arrives in the time that is measured"),
        (("traffic.rate=1/d",), "nothing arrives in the time that is measured"),
        (("window.requests=1",), "nothing arrives in the time that is measured"),
        (
            ("traffic.rate=1e4/s", "window.duration=2 ms", "window.warmup=0 s"),
            "no prompt is answered",
        ),
    ],
)
def test_a_window_that_is_too_short_is_exit_2(cli, folder, sets, message):
    given = [part for each in sets for part in ("--set", each)]
    result = cli("run", folder / "split.yaml", *given, code=2)
    assert message in " ".join(result.stderr.split())
    assert "window" in result.stderr


def test_the_example_trace_is_what_its_generator_makes(cli, tmp_path):
    assert EXAMPLE.read_text() == example_text()
    scenario = trace(tmp_path, example_text())
    sets = ("--set", "traffic.input.max=null", "--set", "deployment.mixed.max_rows=64")
    document = json.loads(cli("run", scenario, *sets, "--json").stdout)
    assert document["requests_measured"] == len(example_rows())
    assert document["utilisation"]["prefix_cache_link"] > 0


def trace(folder, text):
    path = folder / "trace.csv"
    path.write_text(text)
    scenario = folder / "trace.yaml"
    scenario.write_text(
        SMALL.replace("  rate: 4/s\n", "  arrival: trace\n  file: trace.csv\n").replace(
            "window: {duration: 20 s, warmup: 5 s}\n", ""
        )
    )
    return scenario


def test_a_trace_runs_to_its_end(cli, tmp_path):
    text = "time_s,input_tokens,output_tokens,prefix_hash\n"
    text += "".join(f"{i / 4},{300 + i},{5 + i % 7},{'ab'[i % 2]}\n" for i in range(20))
    document = json.loads(cli("run", trace(tmp_path, text), "--json").stdout)
    assert document["requests_measured"] == 20
    assert document["unfinished_share"] == 0
    assert document["utilisation"]["prefix_cache_link"] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("time_s,input_tokens,output_tokens\n2,10,3\n1,10,3\n", "goes back in time"),
        ("time_s,input_tokens,output_tokens\n0,10,900000\n", "context is"),
    ],
)
def test_bad_traces_are_exit_2(cli, tmp_path, text, message):
    result = cli("run", trace(tmp_path, text), code=2)
    assert message in result.stderr
    assert "trace.csv" in result.stderr


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("slo.ttft=2", "has no unit"),
        ("slo.tpot=50", "has no unit"),
        ("traffic.rate=-1/s", "greater than zero"),
        ("traffic.rate=100", "has no unit"),
        ("traffic.input.max=100000000", "traffic.input.max"),
        ("traffic.by_hour=[1, 1]", "24"),
    ],
)
def test_bad_values_are_exit_2(cli, folder, key, message):
    result = cli("run", folder / "mixed.yaml", "--set", key, code=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_without_traffic_one_iteration_is_looked_at(cli):
    given = ("--set", "deployment.decode.mtp.tokens=0", "--set", "iteration.decode_rows=64")
    text = cli("run", "dsv3-decode-ep144", *given).stdout
    assert text.startswith("A decode iteration of 64 sequences a rank, attending to 4,989 tokens")
    document = json.loads(cli("run", "dsv3-decode-ep144", *given, "--json").stdout)
    assert set(document) >= {"iteration_ms", "tokens_per_s_per_gpu", "parts_ms", "memory"}
    node = document["tokens_per_s_per_node"]
    assert node == pytest.approx(8 * 64 / document["iteration_ms"] * 1e3)
    assert sum(document["memory"]["parts_gib"].values()) == pytest.approx(
        document["memory"]["used_gib"]
    )


def test_what_cannot_hold_the_weights_is_exit_3(cli, folder):
    sets = ("--set", "model=deepseek-v3", "--set", "deployment.mixed.redundant=0")
    assert "does not fit" in cli("run", folder / "mixed.yaml", *sets, code=3).stderr
