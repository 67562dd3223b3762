"""Both engines give the same, and every run keeps its laws."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdeep.errors import SimdeepError
from simdeep.serving.sim import compiled, reference
from simdeep.serving.sim.fleet import Cache, Event, Fleet, Grid, Requests, State, Timed
from simdeep.serving.sim.outcome import check
from tests.serving.cases import MS, decode, fleets, mixed, prefill, some_requests

PARTS = ("end_ns", "records", "samples", "units", "unit_ns", "area_ns", "gaps")


def both(fleet, requests):
    one, other = reference.run(fleet, requests), compiled.run(fleet, requests)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part), err_msg=part)
    check(one)
    return one


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fleets(), st.integers(1, 90), st.integers(0, 10_000))
def test_engines_agree_and_laws_hold(fleet, n, seed):
    both(fleet, some_requests(n, seed, longest=900))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kinds", [(prefill(), decode(kv_tokens=1300)), (mixed(kv_tokens=1200),)])
def test_full_kv_cache_preempts_and_loses_nothing(kinds, swap):
    rng = np.random.default_rng(1)
    requests = Requests.of(np.zeros(60), rng.integers(50, 250, 60), rng.integers(300, 600, 60))
    outcome = both(Fleet(kinds, swap=swap), requests)
    assert outcome.record("preempted").sum() > 0
    assert (outcome.record("delivered") == requests.output_tokens).all()


@pytest.mark.parametrize("unit", [0, 2])
def test_a_failed_unit_loses_its_requests_but_no_token(unit):
    requests = some_requests(80, 3)
    timed = (Timed(60 * MS, Event.FAIL, unit), Timed(400 * MS, Event.REPAIR, unit))
    outcome = both(Fleet((prefill(), decode()), timed=timed), requests)
    assert outcome.record("redone").sum() > 0
    assert outcome.unit("failures")[unit] == 1
    assert (outcome.record("delivered") == requests.output_tokens).all()
    assert (
        outcome.sample("output_tokens")[-1] == (requests.output_tokens - requests.delivered).sum()
    )


def test_every_token_is_delivered_once(monkeypatch):
    seen = []
    deliver = reference.Simulation.deliver

    def noted(self, job, tokens):
        seen.extend((job.number, job.done + i) for i in range(tokens))
        deliver(self, job, tokens)

    monkeypatch.setattr(reference.Simulation, "deliver", noted)
    requests = some_requests(60, 9, longest=600)
    timed = (Timed(40 * MS, Event.FAIL, 2), Timed(70 * MS, Event.REPAIR, 2))
    timed += (Timed(80 * MS, Event.FAIL, 0), Timed(90 * MS, Event.REPAIR, 0))
    fleet = Fleet((prefill(), decode(kv_tokens=1100, draft_tokens=1, acceptance=0.8)), timed=timed)
    outcome = reference.run(fleet, requests)
    assert outcome.record("preempted").sum() > 0
    assert outcome.record("redone").sum() > 0
    wanted = {
        (i, token)
        for i in range(60)
        for token in range(requests.delivered[i], requests.output_tokens[i])
    }
    assert len(seen) == len(wanted)
    assert set(seen) == wanted


def test_a_request_alone_takes_what_a_hand_adds_up():
    # 1,000 tokens in chunks of 512 and 488, 5 ms for its KV, then 3 tokens.
    grid = Grid.linear(1e-3, 1e-5, 0.0, 0.0)
    kinds = (prefill(grid=grid, rank_bytes_per_s=14e9), decode(grid=grid))
    fleet = Fleet(kinds, kv_bytes=70_000.0, move_latency_ns=1000)
    outcome = both(fleet, Requests.of([7], [1000], [4]))
    first = 7 + 2 * MS + 10 * MS
    assert outcome.record("begun_ns")[0] == 7
    assert outcome.record("first_ns")[0] == pytest.approx(first, abs=2)
    moved = 1000 * 70_000 / 14e9 * 1e9 + 1000
    assert outcome.record("finish_ns")[0] == pytest.approx(first + moved + 3 * MS, abs=4)


def test_transfers_of_a_node_share_its_bandwidth():
    # Two prompts end together on one node: each of their transfers gets half of it.
    grid = Grid.linear(1e-3, 0.0, 0.0, 0.0)
    kinds = (
        prefill(units=1, nodes=1, grid=grid, node_bytes_per_s=1e9, rank_bytes_per_s=1e9),
        decode(units=2, grid=grid, node_bytes_per_s=1e9, rank_bytes_per_s=1e9),
    )
    fleet = Fleet(kinds, kv_bytes=1e6)
    alone = both(fleet, Requests.of([0], [100], [2]))
    two = both(fleet, Requests.of([0, 0], [100, 100], [2, 2]))
    move = 100 * MS
    assert alone.record("finish_ns")[0] == 2 * MS + move
    assert two.record("finish_ns") == pytest.approx(2 * MS + 2 * move, abs=2)


def test_cached_prefixes_come_from_their_tier_and_the_oldest_goes():
    grid = Grid.linear(0.0, 1e-5, 0.0, 0.0)
    cache = Cache(by_prefix=True, ram_tokens=1000, ssd_tokens=0, block_tokens=100)
    fleet = Fleet((prefill(grid=grid, chunk_tokens=2000), decode()), cache=cache)
    order = [0, 0, 1, 0, 2, 0, 1]
    given = Requests.of(np.arange(7) * 10**9, [610] * 7, [1] * 7, prefix=order)
    outcome = both(fleet, given)
    # Two prefixes of 610 tokens never fit into 1,000 together.
    assert outcome.record("hit_tokens").tolist() == [0, 600, 0, 0, 0, 0, 0]


def test_drafts_shorten_answers_by_the_accepted_tokens():
    grid = Grid.linear(1e-3, 0.0, 0.0, 0.0)
    requests = Requests.of(np.zeros(40), [10] * 40, [400] * 40)
    kind = {"units": 1, "ranks": 8, "max_rows": 8, "kv_tokens": 10_000, "grid": grid}
    plain = both(Fleet((prefill(), decode(**kind))), requests)
    drafted = both(Fleet((prefill(), decode(**kind, draft_tokens=1, acceptance=0.8))), requests)
    ratio = plain.record("finish_ns").mean() / drafted.record("finish_ns").mean()
    assert ratio == pytest.approx(1.8, rel=0.02)


def test_work_balanced_ranks_are_more_even():
    rng = np.random.default_rng(0)
    inputs = np.minimum(rng.lognormal(5, 1.2, 600).astype(int) + 1, 4000)
    requests = Requests.of(np.zeros(600), inputs, np.ones(600))
    grid = Grid.linear(1e-4, 1e-6, 0.0, 0.0)
    seconds = grid.seconds.copy()  # per token 1 us more for each 500 tokens attended to
    seconds[0, 1, :, 1] += 1e6 * 1e-6 * (1e6 / 500)
    grid = Grid(grid.prefill_tokens, grid.decode_rows, grid.context, seconds)

    def busy(equal):
        kind = prefill(units=1, grid=grid, equal_context=equal, kv_tokens=10**6)
        outcome = both(Fleet((kind, decode(kv_tokens=10**6))), requests)
        return outcome.unit_ns[0, 0] / outcome.unit("busy_ns")[0]

    assert busy(500.0) > busy(0.0)


def test_a_unit_switched_off_empties_and_is_paid_until_then():
    requests = some_requests(40, 4, span_ns=20 * MS)
    timed = (Timed(25 * MS, Event.SCALE, 3, False),)
    outcome = both(Fleet((prefill(), decode()), timed=timed), requests)
    paid = outcome.unit("powered_ns")
    assert 25 * MS < paid[3] < outcome.end_ns
    assert paid[2] == outcome.end_ns


def test_rebalancing_stops_units_and_drift_slows_them():
    axis = np.array([0.0, 1.0])
    slow = Grid(np.zeros(1), np.zeros(1), np.zeros(1), np.array([1e-3, 3e-3])[:, None, None, None],
                stale=axis)  # fmt: skip
    kinds = (prefill(), decode(units=1, ranks=1, grid=slow))
    requests = Requests.of([0], [10], [200])
    still = both(Fleet(kinds), requests).end_ns
    drifting = Fleet(kinds, drift=1.0, rebalance_ns=50 * MS, pause_ns=10 * MS)
    outcome = both(drifting, requests)
    assert outcome.end_ns > 1.5 * still
    unit = outcome.fleet.n_units - 1
    assert outcome.unit("stalled_ns")[unit] == 10 * MS * (outcome.end_ns // (50 * MS))


def test_stuck_says_where_requests_are():
    kinds = (prefill(), decode(first_on=0))
    outcome = both_stuck(Fleet(kinds), Requests.of([0, 5], [10, 10], [2, 2]))
    with pytest.raises(SimdeepError, match=r"stuck: nothing moves any more \(2 held"):
        check(outcome)


def both_stuck(fleet, requests):
    one, other = reference.run(fleet, requests), compiled.run(fleet, requests)
    np.testing.assert_array_equal(one.samples, other.samples)
    return one


def test_littles_law_by_state():
    requests = some_requests(100, 5)
    one = reference.run(Fleet((prefill(), decode())), requests)
    samples = one.samples[:, 1 : 1 + len(State)]
    assert (samples.sum(axis=1) == requests.n).all()
    # The SimPy engine sums stays by request, the compiled one counts by time: areas are equal.
    other = compiled.run(Fleet((prefill(), decode())), requests)
    assert one.area_ns.tolist() == other.area_ns.tolist()
    assert one.area_ns[State.ROW] > 0


@pytest.mark.parametrize("engine", [reference, compiled])
def test_ranks_are_never_busier_than_their_unit(engine):
    # One rank, iterations of a second, cut short by the end of the run and by a failure.
    kind = prefill(units=1, ranks=1, grid=Grid.linear(1.0, 0.0, 0.0, 0.0))
    timed = (Timed(1300 * MS, Event.FAIL, 0), Timed(1400 * MS, Event.REPAIR, 0))
    requests = some_requests(40, 1)
    outcome = engine.run(Fleet((kind, decode()), timed=timed, end_ns=2500 * MS), requests)
    busy = float(outcome.unit("busy_ns")[0])
    assert busy == pytest.approx(2400 * MS, rel=0.01)
    assert outcome.unit_ns[0, 0] == pytest.approx(busy)
    assert outcome.unit_ns[0, 1] == pytest.approx(busy)
