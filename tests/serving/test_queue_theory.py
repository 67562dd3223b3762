"""Queueing theory: one server, a million requests, waiting times in closed form."""

import numpy as np
import pytest

from simdeep.serving.sim import compiled
from simdeep.serving.sim.fleet import Fleet, Grid, Requests
from simdeep.serving.sim.outcome import check
from tests.serving.cases import decode, prefill

N = 1_000_000
MEAN_TOKENS = 1000
TOKEN_S = 1e-6


def waiting_s(service_tokens, load, seed=0):
    """Mean wait of a server whose service takes a microsecond a prompt token."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(MEAN_TOKENS * TOKEN_S * 1e9 / load, N)
    grid = Grid.linear(0.0, TOKEN_S, 0.0, 0.0)
    kind = prefill(units=1, nodes=1, ranks=1, max_prompts=1, grid=grid)
    kind = prefill_like(kind, chunk_tokens=10**6, kv_tokens=10**9)
    fleet = Fleet((kind, decode(units=1, nodes=1, ranks=1)), sample_ns=10**12)
    outcome = compiled.run(fleet, Requests.of(np.cumsum(gaps), service_tokens, np.ones(N)))
    check(outcome)
    given = outcome.requests
    assert (outcome.record("finish_ns") >= 0).all()
    assert outcome.unit("busy_ns")[0] <= outcome.end_ns
    served = service_tokens.sum() * TOKEN_S * 1e9
    assert outcome.unit("busy_ns")[0] == pytest.approx(served, rel=1e-6)
    wait = (outcome.record("begun_ns") - given.arrival_ns) / 1e9
    # Little's law for the queue: its mean length is the arrival rate times the mean wait.
    length = outcome.area_ns[3] / outcome.end_ns
    assert length == pytest.approx(wait.sum() * 1e9 / outcome.end_ns, rel=1e-9)
    return float(wait.mean())


def prefill_like(kind, **changes):
    from dataclasses import replace

    return replace(kind, **changes)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_m_m_1(load):
    service = np.maximum(1, np.rint(np.random.default_rng(1).exponential(MEAN_TOKENS, N)))
    mu = 1 / (MEAN_TOKENS * TOKEN_S)
    assert waiting_s(service.astype(int), load) == pytest.approx(load / (mu - load * mu), rel=0.02)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_d_1(load):
    mu = 1 / (MEAN_TOKENS * TOKEN_S)
    expected = load / (2 * mu * (1 - load))
    assert waiting_s(np.full(N, MEAN_TOKENS), load) == pytest.approx(expected, rel=0.02)
