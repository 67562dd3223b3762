from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from simdeep.analysis.attribution import attribute
from simdeep.analysis.blame import find_blame
from simdeep.analysis.critical import critical_path
from simdeep.analysis.frame import COLUMNS, spans_frame
from simdeep.analysis.memory import memory
from simdeep.analysis.overlap import overlap
from simdeep.engine.timeline import Timeline
from simdeep.errors import InputError
from simdeep.program.columns import Priced, Program
from simdeep.report.timeline_csv import write_spans
from tests.analysis.tiny_programs import pipeline, two_rank_pipeline


def test_columns_are_the_documented_ones():
    timeline = two_rank_pipeline()
    assert list(spans_frame(timeline, find_blame(timeline))) == list(COLUMNS)
    assert list(spans_frame(timeline)) == [c for c in COLUMNS if c != "cause"]


def test_csv_holds_every_span(tmp_path):
    path = write_spans(spans_frame(two_rank_pipeline()), tmp_path / "t.csv")
    lines = path.read_bytes().decode().split("\n")
    assert lines[0] == ",".join(c for c in COLUMNS if c != "cause")
    assert lines[1] == "0,0,compute,compute,F,attn,computing.F.attn,0,-1,0,0,-1,-1,0,10,10,112,0,0"
    assert lines[5].startswith("4,1,p2p,sync,F,p2p,,-1,-1")
    assert len(lines) == 8 + 2


def test_parquet_reads_back(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = spans_frame(two_rank_pipeline())
    path = write_spans(frame, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"simdeep\[parquet\]"):
        write_spans(spans_frame(two_rank_pipeline()), tmp_path / "t.parquet")


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.csv or \.parquet, not \.xlsx"):
        write_spans(spans_frame(two_rank_pipeline()), tmp_path / "t.xlsx")


def test_a_hundred_thousand_tasks_are_analysed_quickly():
    timeline = _repeat(pipeline(16, 32).timeline(), times=17)
    assert timeline.program.n > 100_000
    began = time.process_time()
    blame = find_blame(timeline)
    found = attribute(timeline, blame)
    path = critical_path(timeline, blame)
    overlap(timeline)
    memory(timeline, {}, 80.0)
    assert time.process_time() - began < 1.5
    assert (found.ns.sum(axis=0) == timeline.makespan_ns).all()
    assert sum(path.ns.values()) == timeline.makespan_ns


def _repeat(timeline: Timeline, times: int) -> Timeline:
    """The same program on more ranks, side by side."""
    from dataclasses import fields

    program, n, ranks = timeline.program, timeline.program.n, timeline.program.n_ranks
    columns = {
        f.name: np.tile(value, times)
        for f in fields(program)
        if isinstance(value := getattr(program, f.name), np.ndarray)
    }
    copy = np.repeat(np.arange(times), n)
    columns["rank"] = columns["rank"] + (copy * ranks).astype(np.int32)
    columns["dep_idx"] = np.concatenate([program.dep_idx + k * n for k in range(times)])
    columns["dep_ptr"] = np.append(0, np.cumsum(np.tile(np.diff(program.dep_ptr), times)))
    big = Program(
        n_ranks=ranks * times,
        streams=program.streams,
        components=program.components,
        works=(),
        **columns,
    )
    priced = {f.name: getattr(timeline.priced, f.name) for f in fields(timeline.priced)}
    for name, value in priced.items():
        if isinstance(value, np.ndarray):
            priced[name] = np.concatenate([value] * times)
    priced["program"] = big
    start, end = (np.tile(c, times) for c in (timeline.start_ns, timeline.end_ns))
    return Timeline(Priced(**priced), start, end, "tiny", 0.0)
