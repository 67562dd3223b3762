"""Schedule tables run by the engines: closed forms, and the table replay as an oracle."""

import numpy as np
import pytest

from simdeep.engine import compiled, reference
from simdeep.program.schedule import Costs, Overlap, build_table, find_schedule, replay
from simdeep.program.schedule.closed import Uniform

from .programs import Task, priced

SIZES = [(4, 8), (8, 20), (16, 120)]


def cells_as_tasks(table, costs: Uniform):
    """One compute task for each cell of a table, waiting for the cells it needs."""
    produced, tasks, needs = {}, [], []
    for rank, row in enumerate(table.rows):
        for cell in row:
            acts = (cell.f, cell.b) if isinstance(cell, Overlap) else (cell,)
            time = costs.pair if isinstance(cell, Overlap) else getattr(costs, cell.kind.lower())
            for act in acts:
                if act.kind == "F":
                    produced["F", act.stage, act.mb] = len(tasks)
                    if act.stage:
                        needs.append((len(tasks), ("F", act.stage - 1, act.mb)))
                elif act.kind in "BI":
                    produced["B", act.stage, act.mb] = len(tasks)
                    if act.stage < table.n_stages - 1:
                        needs.append((len(tasks), ("B", act.stage + 1, act.mb)))
            tasks.append(Task(rank=rank, fixed=float(time), deps=[]))
    for task, key in needs:
        tasks[task].deps.append(produced[key])
    return tasks


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["1f1b", "zb1p", "dualpipe"])
@pytest.mark.parametrize(
    "costs",
    [Uniform(f=10, i=10, w=10), Uniform(f=12, i=12, w=7), Uniform(f=12, i=12, w=7, fb=25)],
    ids=["equal", "short W", "gaining block"],
)
@pytest.mark.parametrize("engine", [reference, compiled])
def test_published_closed_forms(engine, name, size, costs):
    pp, microbatches = size
    table = build_table(name, pp, microbatches)
    timeline = engine.run(priced(cells_as_tasks(table, costs)))
    form = find_schedule(name).closed
    assert not form.unmet(pp, microbatches, costs)
    assert timeline.makespan_ns == form.makespan(pp, microbatches, costs)
    rank = timeline.program.rank
    busy = np.bincount(rank, weights=timeline.end_ns - timeline.start_ns)
    assert (timeline.makespan_ns - busy)[pp // 2] == form.bubble(pp, costs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["1f1b", "zb1p", "dualpipe"])
def test_activation_chunks(name, size):
    pp, microbatches = size
    spans = replay(build_table(name, pp, microbatches), Costs(f=1, i=1, w=1))
    expected = {"1f1b": pp, "zb1p": pp, "dualpipe": pp + 1}[name]
    assert max(spans.peak_activations["I"]) == expected
