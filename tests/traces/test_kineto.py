"""Profiler traces: phases from annotations, kinds from names, rows as published."""

import json

import pytest

from simdeep.errors import InputError
from simdeep.traces import compare, measure, read_trace
from simdeep.traces.names import component_of, kind_of


def kernel(name, ts, dur, stream, correlation=None, cat="kernel"):
    args = {"stream": stream, "device": 0}
    if correlation is not None:
        args["correlation"] = correlation
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": 0,
        "tid": stream,
        "ts": ts,
        "dur": dur,
        "args": args,
    }


def host(cat, name, ts, dur, tid=1, correlation=None):
    args = {} if correlation is None else {"correlation": correlation}
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": 9,
        "tid": tid,
        "ts": ts,
        "dur": dur,
        "args": args,
    }


@pytest.fixture
def profiler(tmp_path):
    """Two steps of an annotated attention with a nested projection, and an all-reduce beside it."""
    events = []
    for step, at in enumerate((1000.0, 2000.0)):
        events += [
            host("user_annotation", "attn", at, 100),
            host("user_annotation", "proj", at + 40, 20),
            host("cuda_runtime", "cudaLaunchKernel", at + 10, 5, correlation=10 * step + 1),
            host("cuda_runtime", "cudaLaunchKernel", at + 45, 5, correlation=10 * step + 2),
            host("cuda_runtime", "cudaLaunchKernel", at + 70, 5, correlation=10 * step + 3),
            host("cuda_runtime", "cudaLaunchKernel", at + 45, 5, tid=2, correlation=10 * step + 4),
            kernel("flash_fwd_kernel", at + 20, 100, 7, 10 * step + 1),
            kernel("sm90_xmma_gemm", at + 120, 50.5, 7, 10 * step + 2),
            kernel("rmsnorm", at + 180, 20, 7, 10 * step + 3),
            kernel("ncclDevKernel_AllReduce_Sum_bf16", at + 150, 40, 20, 10 * step + 4),
            kernel("Memcpy DtoD", at + 300, 10, 7, cat="gpu_memcpy"),
        ]
    path = tmp_path / "profile.json"
    document = {"traceEvents": events, "distributedInfo": {"rank": 3, "world_size": 8}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_trace(path)


def test_a_kernel_belongs_to_the_innermost_annotation_of_its_launch(profiler):
    spans = profiler.spans
    assert set(spans["rank"]) == {3}
    by_name = spans.groupby("name")[["phase", "layer"]].agg(list)
    assert by_name.loc["flash_fwd_kernel", "phase"] == ["attn", "attn"]
    assert by_name.loc["sm90_xmma_gemm", "phase"] == ["proj", "proj"]
    assert by_name.loc["rmsnorm", "phase"] == ["attn", "attn"]
    assert by_name.loc["flash_fwd_kernel", "layer"] == [0, 1]
    # Launched on a thread without annotations: named by what it is.
    assert by_name.loc["ncclDevKernel_AllReduce_Sum_bf16", "phase"] == ["reduce", "reduce"]
    assert spans["start_ns"].min() == 0


def test_sums_of_a_measured_trace_by_hand(profiler):
    found = measure(profiler)
    row = found.by_rank.iloc[0]
    assert found.makespan_ns == 1_290_000
    assert row["compute"] == 2 * 170_500
    assert row["communication"] == 80_000
    assert row["hidden"] == 2 * (20_500 + 10_000)
    assert row["exposed"] == 80_000 - 61_000
    assert row["memory"] == 20_000
    assert row["idle"] == 1_290_000 - 2 * (180_000 + 10_000)
    assert found.overlap == pytest.approx(61 / 80)


def test_the_published_trace_adds_up_as_its_readme_says():
    trace = read_trace("h800_train_trace")
    assert len(trace.spans) == 983
    assert (trace.spans["kind"] == "communication").sum() == 16
    assert (trace.spans["kind"] == "wait").sum() == 20
    assert measure(trace).by_rank.iloc[0]["exposed"] < 0.04 * trace.makespan_ns


def test_comparing_a_trace_with_itself_finds_nothing():
    trace = read_trace("h800_train_trace")
    found = compare(trace, trace)
    assert len(found.phases) == 10
    assert (found.phases["ratio"] == 0).all()
    assert (found.phases["count_a"] == 4).all()


@pytest.mark.parametrize(
    ("name", "kind", "component"),
    [
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "communication", "other"),
        ("void deep_ep::internode::dispatch<false>", "communication", "other"),
        ("ep_notify_dispatch", "wait", "other"),
        ("Memcpy HtoD (Pinned -> Device)", "memory", "copy"),
        ("void flash_fwd_kernel<...>", "compute", "attention"),
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT", "compute", "gemm"),
        ("void at::native::vectorized_elementwise_kernel<4>", "compute", "elementwise"),
    ],
)
def test_kernel_names(name, kind, component):
    assert kind_of(name) == kind
    assert component_of(name) == component


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", '{"x": 1}', "traceEvents"),
        ("a.json", '{"traceEvents": [1]}', "traceEvents"),
        ("a.json", '{"traceEvents": []}', "no GPU activity"),
        ("a.json.gz", "plain", "not JSON"),
        ("a.csv", "x,y\n1,2\n", "no column start_us"),
        ("a.csv", "start_us,dur_us,stream,layer,phase,kernel\n", "no rows"),
        ("a.csv", "start_us,dur_us,stream,layer,phase,kernel\n-1,2,7,0,p,k\n", "a.csv:2"),
        ("a.txt", "x", "a trace is"),
    ],
)
def test_files_that_are_no_traces(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_trace(path)


def test_a_cut_gzip_and_a_missing_file(tmp_path):
    import gzip

    path = tmp_path / "cut.json.gz"
    path.write_bytes(gzip.compress(b'{"traceEvents": []}' * 100)[:-9])
    with pytest.raises(InputError, match="cut off"):
        read_trace(path)
    with pytest.raises(InputError, match="shipped traces: h800_train_trace"):
        read_trace(tmp_path / "none.json")
