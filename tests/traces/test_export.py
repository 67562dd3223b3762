"""What a trace file says, added up again in plain Python, is what the result says."""

import gzip
import itertools
import json
from collections import defaultdict

import pytest

from simdeep import api
from simdeep.program.columns import Kind
from simdeep.spec.scenario import load_scenario
from simdeep.traces import export, export_ranks, measure, read_trace, trace_of, write_trace
from simdeep.traces.export import COMM_PREFIX, FIRST_STREAM, IDLE_THREAD, MARK


@pytest.fixture(scope="module")
def result():
    return api.simulate(load_scenario("toy-dense"))


@pytest.fixture(scope="module")
def moe():
    return api.simulate(load_scenario("dsv3-fb-pair-h800"))


@pytest.fixture(scope="module")
def document(result, tmp_path_factory):
    path = write_trace(export(result), tmp_path_factory.mktemp("trace") / "t.json.gz")
    return json.loads(gzip.decompress(path.read_bytes()))


def ns(us):
    return round(us * 1000)


def test_every_span_is_there_once(result, document):
    program, timeline = result.timeline.program, result.timeline
    expected = sorted(
        (
            int(program.rank[i]),
            int(program.stream[i]),
            int(timeline.start_ns[i]),
            int(timeline.end_ns[i]),
        )
        for i in range(program.n)
        if program.kind[i] != Kind.SYNC and timeline.end_ns[i] > timeline.start_ns[i]
    )
    found = sorted(
        (e["pid"], e["tid"] - FIRST_STREAM, ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]))
        for e in document["traceEvents"]
        if e.get("cat") == "kernel"
    )
    assert found == expected


@pytest.mark.parametrize("which", ["result", "moe"])
def test_totals_of_the_file_equal_the_result_to_the_nanosecond(which, request, tmp_path):
    found = request.getfixturevalue(which)
    path = write_trace(export(found), tmp_path / "t.json")
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    booked = defaultdict(int)
    computing = defaultdict(list)
    for e in events:
        if e.get("cat") == "idle":
            booked[e["name"], e["pid"]] += ns(e["dur"])
        if e.get("cat") == "kernel" and not e["name"].startswith(COMM_PREFIX):
            launch = e["args"].get("launch_ns", 0)
            booked[e["args"]["part"], e["pid"]] += ns(e["dur"]) - launch
            booked["launch_gap", e["pid"]] += launch
            computing[e["pid"]].append((ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])))
    parts = {
        (str(part), rank): int(value)
        for part, row in zip(found.attribution.parts, found.attribution.ns, strict=True)
        for rank, value in enumerate(row)
        if value
    }
    assert {k: v for k, v in booked.items() if v} == parts

    transfer, hidden = defaultdict(int), defaultdict(int)
    for e in events:
        if e.get("cat") == "kernel" and e["name"].startswith(COMM_PREFIX):
            low, high = ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])
            kind = e["name"].removeprefix(COMM_PREFIX).split("(")[0]
            transfer[kind] += high - low
            hidden[kind] += sum(max(0, min(high, b) - max(low, a)) for a, b in computing[e["pid"]])
    kinds = dict(zip(found.overlap.kinds, found.overlap.transfer_ns.sum(axis=1), strict=True))
    assert dict(transfer) == {k: v for k, v in kinds.items() if v}
    hid = dict(zip(found.overlap.kinds, found.overlap.hidden_ns.sum(axis=1), strict=True))
    assert {k: hidden[k] for k in transfer} == {k: hid[k] for k in transfer}


def test_reading_back_gives_the_same_measures(moe, tmp_path):
    path = write_trace(export(moe), tmp_path / "t.json.gz")
    back, straight = measure(read_trace(path)), measure(trace_of(moe.timeline, "x"))
    assert back.makespan_ns == straight.makespan_ns == moe.timeline.makespan_ns
    for table in ("by_rank", "by_kind", "by_part"):
        assert getattr(back, table).equals(getattr(straight, table))
    assert back.overlap == moe.overlap.comm_overlap


def test_the_format_is_what_perfetto_takes(document):
    """Rules of Chrome's trace event format: fields, metadata before use, matched arrows."""
    flows = defaultdict(list)
    named = {(e["pid"], e["tid"]) for e in document["traceEvents"] if e["name"] == "thread_name"}
    for e in document["traceEvents"]:
        assert e["ph"] in "XMCsf"
        assert isinstance(e["pid"], int)
        assert e["ts"] >= 0
        if e["ph"] == "X":
            assert e["dur"] > 0
            assert (e["pid"], e["tid"]) in named
        if e["ph"] in "sf":
            flows[e["id"]].append(e)
        if e["ph"] == "C":
            assert all(isinstance(v, float) for v in e["args"].values())
    assert flows
    spans = defaultdict(list)
    for e in document["traceEvents"]:
        if e.get("cat") == "kernel":
            spans[e["pid"], e["tid"]].append((ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])))
    for pair in flows.values():
        assert sorted(e["ph"] for e in pair) == ["f", "s"]
        start, end = sorted(pair, key=lambda e: e["ph"], reverse=True)
        assert start["ts"] <= end["ts"]
        for e in pair:
            at = ns(e["ts"])
            assert any(low <= at < high for low, high in spans[e["pid"], e["tid"]])


def test_spans_of_a_thread_do_not_overlap(document):
    threads = defaultdict(list)
    for e in document["traceEvents"]:
        if e["ph"] == "X" and e["tid"] >= IDLE_THREAD:
            threads[e["pid"], e["tid"]].append((ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])))
    for spans in threads.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_counters_show_the_peak_and_the_sm_split(moe):
    events = export(moe)["traceEvents"]
    used = [e["args"]["used"] for e in events if e["name"] == "HBM (GiB)"]
    assert max(used, default=0) == pytest.approx(moe.memory.peak_gib, abs=1e-3)
    sms = [e["args"] for e in events if e["name"] == "SMs in use"]
    assert max(s["copying"] for s in sms) == 20
    assert max(s["computing"] for s in sms) == 112
    load = [e["args"]["load"] for e in events if e["name"].endswith("load (%)")]
    assert 0 < max(load) <= 100.0001


def test_the_same_result_gives_the_same_bytes(result, tmp_path):
    first = write_trace(export(result), tmp_path / "a.json.gz").read_bytes()
    again = api.simulate(load_scenario("toy-dense"))
    assert write_trace(export(again), tmp_path / "b.json.gz").read_bytes() == first


def test_some_ranks_and_one_file_a_rank(result):
    some = export(result, ranks=[1, 2])
    assert {e["pid"] for e in some["traceEvents"]} == {1, 2}
    assert some[MARK]["ranks"] == [1, 2]
    documents = dict(export_ranks(result))
    assert sorted(documents) == list(range(result.timeline.program.n_ranks))
    for rank, document in documents.items():
        assert document["distributedInfo"]["rank"] == rank
        assert {e["pid"] for e in document["traceEvents"]} == {rank}


def test_a_view_of_every_gpu_keeps_the_reasons_of_the_whole():
    """Time of the GPUs shown, added up from the trace, is what the whole result books for them."""
    from simdeep.analysis.view import idle_of_each, one_of_each

    changes = {"simulate.fold": "false", "routing.skew": "0.5", "train.gbs": "512"}
    found = api.simulate(load_scenario("dsv3-straggler-256", changes))
    peers = found.stragglers.peers
    idle = idle_of_each(found.timeline, peers)
    trace = trace_of(one_of_each(found.timeline, peers), "view", idle)
    said = measure(trace).by_part
    for part, by_rank in zip(found.attribution.parts, found.attribution.ns, strict=True):
        mine = said[said["part"] == str(part)].set_index("rank")["ns"]
        for rank, expected in enumerate(by_rank[::peers].tolist()):
            assert mine.get(rank, 0) == expected, (part, rank)
    assert any(str(part).startswith("exposed_comm") for part in trace.idle["part"])
