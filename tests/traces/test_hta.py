"""HolisticTraceAnalysis reads what we export and finds the same busy, idle and overlapped time."""

import pytest
from hta.trace_analysis import TraceAnalysis

from simdeep import api
from simdeep.spec.scenario import load_scenario
from simdeep.traces import export_ranks, measure, trace_of, write_trace

# Not ours to mend: that package uses what newer pandas warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    result = api.simulate(load_scenario("toy-dense"))
    for rank, document in export_ranks(result):
        write_trace(document, folder / f"rank-{rank}.json.gz")
    theirs = TraceAnalysis(trace_dir=str(folder))
    trace = trace_of(result.timeline, "toy")
    # They cut starts and ends to whole microseconds: each span may lose up to two.
    rounding = (2000 * trace.spans.groupby("rank").size()).to_dict()
    return theirs, measure(trace), rounding


def test_temporal_breakdown(both):
    theirs, ours, rounding = both
    table = theirs.get_temporal_breakdown(visualize=False).set_index("rank")
    assert len(table) == len(ours.by_rank)
    for row in ours.by_rank.to_dict("records"):
        said, lost = table.loc[row["rank"]], rounding[row["rank"]]
        assert said["compute_time(us)"] * 1e3 == pytest.approx(row["compute"], abs=lost)
        busy = said["compute_time(us)"] + said["non_compute_time(us)"]
        assert busy * 1e3 == pytest.approx(row["compute"] + row["exposed"], abs=lost)


def test_overlap_of_communication_and_compute(both):
    theirs, ours, _ = both
    table = theirs.get_comm_comp_overlap(visualize=False).set_index("rank")
    for row in ours.by_rank.to_dict("records"):
        share = 100 * row["hidden"] / row["communication"]
        assert table.loc[row["rank"], "comp_comm_overlap_pctg"] == pytest.approx(share, abs=0.05)
