"""Tables run in torch's runtime and in ours end with the gradients of an unpipelined run."""

import pytest

from simdeep.errors import InputError
from simdeep.program.schedule import Table, build_table, find_schedule
from simdeep.validate import TOLERANCE, Case, Outcome, Runtime, run_cases, torch_problems
from simdeep.validate.messages import steps_of
from tests.validate.tables import by_hand, of_registry

TABLES = {**of_registry(), **by_hand()}
ONE_COPY = [name for name, table in TABLES.items() if not torch_problems(table)]


def equal(outcome: Outcome) -> bool:
    assert outcome.gradient_error <= TOLERANCE
    assert outcome.loss == pytest.approx(outcome.reference_loss, rel=1e-12)
    return outcome.equal


@pytest.mark.parametrize("name", ONE_COPY)
def test_torch_runs_the_exported_csv(outcomes, name):
    assert equal(outcomes[name, Runtime.TORCH])


@pytest.mark.parametrize("name", TABLES)
def test_our_runtime_runs_every_table(outcomes, name):
    assert equal(outcomes[name, Runtime.SIMDEEP])


def test_the_tables_are_those_that_matter():
    plain = {f"{find_schedule(name).name}, vpp 1" for name in ("1f1b", "zb1p")}
    assert plain | {"loop", "vee"} <= {*ONE_COPY}
    kinds = {str(cell)[0] == "(" for name in ONE_COPY for row in TABLES[name].rows for cell in row}
    assert kinds == {True, False}


@pytest.mark.parametrize("name", ["dualpipe, vpp 1", "dualpipe"])
def test_both_copies_of_a_dualpipe_stage_end_with_the_same_gradients(outcomes, name):
    outcome, table = outcomes[name, Runtime.SIMDEEP], TABLES[name]
    assert outcome.copies_equal
    holders = sorted((gradient.stage, gradient.rank) for gradient in outcome.gradients)
    last = table.n_stages - 1
    assert holders == sorted((s, r) for s in range(last + 1) for r in (s, last - s))


@pytest.mark.parametrize("name", TABLES)
def test_measured_spans_keep_the_order_of_the_table(outcomes, name):
    spans, table = outcomes[name, Runtime.SIMDEEP].spans, TABLES[name]
    assert spans.table == table
    assert min(start[0] for start in spans.start) == 0.0
    made = {}
    for rank in range(table.n_ranks):
        start, end = spans.start[rank], spans.end[rank]
        assert len(start) == len(table.rows[rank])
        assert (end > start).all()
        assert (start[1:] >= end[:-1]).all()
        for index, step in enumerate(steps_of(table, rank)):
            made |= {message.slot: end[index] for message in step.sends}
    for rank in range(table.n_ranks):
        for index, step in enumerate(steps_of(table, rank)):
            assert all(made[m.slot] <= spans.start[rank][index] for m in step.receives)


@pytest.mark.parametrize("name", ONE_COPY)
def test_torch_has_no_spans(outcomes, name):
    assert outcomes[name, Runtime.TORCH].spans is None


def test_torch_refuses_what_lives_on_two_ranks():
    with pytest.raises(InputError, match="holds each stage on 2 ranks; torch's runtime knows one"):
        run_cases([Case(build_table("dualpipe", 2, 4), Runtime.TORCH)])


def test_torch_refuses_losses_out_of_order():
    table = Table("swapped", build_table("1f1b", 1, 1).rows, 1, 1, ((0,),))
    assert torch_problems(table) == ()
    one = build_table("1f1b", 1, 2)
    swapped = Table("swapped", (one.rows[0][2:] + one.rows[0][:2],), 1, 2, ((0,),))
    assert "out of order" in torch_problems(swapped)[0].message


def test_windows_and_crowds_are_refused():
    with pytest.raises(InputError, match="only a whole step can be run"):
        run_cases([Case(build_table("pair", 1, 2), Runtime.SIMDEEP)])
    with pytest.raises(InputError, match="17 ranks would be as many processes"):
        run_cases([Case(build_table("1f1b", 17, 17), Runtime.SIMDEEP)])


def test_a_run_is_of_one_number_of_ranks():
    cases = [Case(build_table("1f1b", pp, 2), Runtime.SIMDEEP) for pp in (1, 2)]
    with pytest.raises(ValueError, match="equally many ranks"):
        run_cases(cases)
