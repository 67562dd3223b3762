"""Flow simulation against hand-worked cases, the definition of max-min fairness and a plain one."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.engine.flows import Csr, fair_rates, simulate
from simdeep.errors import DeadlockError, InputError

from . import flow_reference

GB = 1e9
MS = 1_000_000  # ns


def rates(paths, bandwidth, **kw):
    return fair_rates(Csr.of(paths), np.array(bandwidth) * GB, **kw)[0] / GB


def ends_ms(paths, mbytes, bandwidth, start_ms=0.0, **kw):
    """Ends in ms of flows in MB over links in GB/s (1 MB takes 1 ms at 1 GB/s)."""
    found = simulate(
        Csr.of(paths),
        np.array(mbytes) * 1e6,
        np.array(start_ms) / 1e3,
        kw.pop("latency_s", 0.0),
        np.array(bandwidth) * GB,
        **kw,
    )
    return (found.end_ns / MS).tolist()


# --- hand-worked -------------------------------------------------------------------------------
def test_parking_lot():
    """One flow over three links, one more on each: all get half."""
    assert rates([[0, 1, 2], [0], [1], [2]], [1, 1, 1]).tolist() == [0.5] * 4


def test_two_bottlenecks():
    """Three on link 0 get a third each; the one that link 1 alone limits gets what is left."""
    found = rates([[0], [0, 1], [0], [1]], [1, 1])
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 1 / 3, 2 / 3])


def test_slow_link_frees_the_fast_one():
    np.testing.assert_allclose(rates([[0, 1], [1], [1]], [0.1, 1]), [0.1, 0.45, 0.45])


def test_cap_frees_the_rest():
    assert rates([[0], [0]], [10], rate_cap=[2 * GB, np.inf]).tolist() == [2, 8]


def test_a_link_crossed_twice_counts_twice():
    np.testing.assert_allclose(rates([[0, 0], [0]], [3]), [1, 1])


def test_count_is_that_many_flows():
    assert rates([[0], [0]], [4], count=[3, 1]).tolist() == [1, 1]


def test_late_arrivals():
    """Links of 1 GB/s. A (6 MB over both) runs alone until 2 ms, B (1 MB, link 0) and C (3 MB,
    link 1) come at 2 and 3: A and B share from 2 (0.5 each), B done at 4 (C at 0.5 from 3).
    A has 3 MB left at 4 and shares with C, which has 2.5 left and ends at 9; A has 0.5 left."""
    found = ends_ms([[0, 1], [0], [1]], [6, 1, 3], [1, 1], [0, 2, 3])
    assert found == [9.5, 4.0, 9.0]


def test_ends_raise_the_others():
    assert ends_ms([[0], [0], [0]], [1, 2, 3], [1]) == [3.0, 5.0, 6.0]


def test_overhead_latency_and_order():
    """Set-up 1 ms, 2 ms moving, 0.5 ms latency; then the same again."""
    found = ends_ms(
        [[0], [0]], [2, 2], [1], overhead_s=1e-3, latency_s=5e-4, after=Csr.of([[], [0]])
    )
    assert found == [3.5, 7.0]


def test_overhead_holds_no_link():
    assert ends_ms([[0], [0]], [2, 2], [1], overhead_s=[0, 2e-3]) == [2.0, 4.0]


def test_no_links_and_no_bytes():
    assert ends_ms([[], [0], []], [5, 0, 5], [1], rate_cap=[GB, GB, np.inf]) == [5.0, 0.0, 0.0]


def test_what_links_carried():
    found = simulate(Csr.of([[0, 1], [1]]), [2e6, 1e6], [0, 0], 0.0, [GB, GB, GB])
    assert found.link_bytes.tolist() == [2e6, 3e6, 0]
    assert found.link_busy_ns.tolist() == [3 * MS, 3 * MS, 0]
    np.testing.assert_allclose(found.utilisation, [2 / 3, 1, 0])


def test_no_flows():
    assert simulate(Csr.of([]), 0.0, 0.0, 0.0, [GB]).makespan_s == 0.0


# --- bad input ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"link_bandwidth": [0.0]}, "flow 0: link 0 on its way has a bandwidth of 0"),
        ({"nbytes": -1.0}, "flow 0: nbytes is -1"),
        ({"latency_s": np.nan}, "flow 0: latency_s is nan"),
        ({"paths": Csr.of([[3]])}, "there is no link 3"),
        ({"rate_cap": 0.0}, "rate_cap is 0"),
        ({"after": Csr.of([[7]])}, "must list flows 0 to 0"),
    ],
)
def test_bad_input(change, text):
    good = {
        "paths": Csr.of([[0]]),
        "nbytes": 1.0,
        "start_s": 0.0,
        "latency_s": 0.0,
        "link_bandwidth": [1.0],
    }
    with pytest.raises(InputError, match=text):
        simulate(**(good | change))


def test_circle_is_named():
    with pytest.raises(DeadlockError, match="flow 1 waits for flow 2 waits for flow 1"):
        simulate(Csr.of([[0]] * 3), 1.0, 0.0, 0.0, [1.0], after=Csr.of([[], [2], [1]]))


# --- properties --------------------------------------------------------------------------------
@st.composite
def networks(draw, max_flows=12):
    n_links = draw(st.integers(1, 6))
    link = st.integers(0, n_links - 1)
    paths = draw(st.lists(st.lists(link, min_size=1, max_size=4), min_size=1, max_size=max_flows))
    n = len(paths)
    return {
        "paths": paths,
        "bandwidth": np.array(draw(st.lists(st.integers(1, 9), min_size=6, max_size=6))[:n_links])
        * GB,
        "caps": np.array(
            draw(st.lists(st.sampled_from([np.inf, 0.5, 2.0]), min_size=n, max_size=n))
        )
        * GB,
    }


@st.composite
def scenes(draw):
    net = draw(networks())
    n = len(net["paths"])

    def column(values):
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), float)

    after = [draw(st.lists(st.integers(0, f - 1), max_size=2)) if f else [] for f in range(n)]
    chained = draw(st.booleans())
    return net | {
        "nbytes": column(st.integers(0, 20)) * 1e7,
        "start": column(st.integers(0, 8)) / 1e3,
        "latency": column(st.integers(0, 3)) / 1e3,
        "overhead": column(st.integers(0, 3)) / 1e3,
        "after": after if chained else [[] for _ in range(n)],
    }


def run(scene, order=None, **kw):
    order = range(len(scene["paths"])) if order is None else order
    at = list(order)
    place = {f: i for i, f in enumerate(at)}
    after = [[place[p] for p in scene["after"][f]] for f in at]
    return simulate(
        Csr.of([scene["paths"][f] for f in at]),
        scene["nbytes"][at],
        scene["start"][at],
        scene["latency"][at],
        scene["bandwidth"],
        overhead_s=scene["overhead"][at],
        rate_cap=scene["caps"][at],
        after=Csr.of(after) if any(after) else None,
        **kw,
    )


@settings(deadline=None, max_examples=200)
@given(networks(max_flows=30))
def test_rates_are_max_min_fair(net):
    """No link above its bandwidth; each flow is at its cap or has a full link with none faster."""
    paths, bandwidth = net["paths"], net["bandwidth"]
    found, bottleneck = fair_rates(Csr.of(paths), bandwidth, rate_cap=net["caps"])
    carried = np.zeros(len(bandwidth))
    fastest = np.zeros(len(bandwidth))
    for path, rate in zip(paths, found, strict=True):
        np.add.at(carried, path, rate)
        fastest[path] = np.maximum(fastest[path], rate)
    assert (carried <= bandwidth * (1 + 1e-9)).all()
    for flow, path in enumerate(paths):
        link = bottleneck[flow]
        if link < 0:
            assert found[flow] == net["caps"][flow]
        else:
            assert link in path
            assert carried[link] == pytest.approx(bandwidth[link])
            assert found[flow] >= fastest[link] * (1 - 1e-9)
    np.testing.assert_allclose(
        found, flow_reference.water_fill(paths, bandwidth, net["caps"]), rtol=1e-9
    )


@settings(deadline=None, max_examples=200)
@given(scenes())
def test_same_as_the_plain_simulation(scene):
    expected = flow_reference.simulate(
        scene["paths"],
        scene["nbytes"],
        scene["start"],
        scene["latency"],
        scene["bandwidth"],
        scene["caps"],
        scene["overhead"],
        scene["after"],
    )
    found = run(scene)
    # A nanosecond is lost at most at each end, and flows of milliseconds pass it on.
    np.testing.assert_allclose(found.end, expected, rtol=1e-5, atol=1e-7)
    bytes_over = np.zeros(len(scene["bandwidth"]))
    for path, size in zip(scene["paths"], scene["nbytes"], strict=True):
        np.add.at(bytes_over, path, size)
    np.testing.assert_allclose(found.link_bytes, bytes_over)


@settings(deadline=None, max_examples=100)
@given(scenes(), st.randoms())
def test_order_of_flows_does_not_matter(scene, random):
    scene = scene | {"after": [[] for _ in scene["paths"]]}
    order = list(range(len(scene["paths"])))
    random.shuffle(order)
    np.testing.assert_array_equal(run(scene, order).end_ns, run(scene).end_ns[order])


@settings(deadline=None, max_examples=100)
@given(scenes(), st.integers(1, 4))
def test_count_is_the_same_as_copies(scene, times):
    scene = scene | {"after": [[] for _ in scene["paths"]]}
    n = len(scene["paths"])
    once = run(scene, count=times)
    copies = run(scene, [f for f in range(n) for _ in range(times)])
    np.testing.assert_array_equal(np.repeat(once.end_ns, times), copies.end_ns)
    np.testing.assert_allclose(once.link_bytes, copies.link_bytes)


@settings(deadline=None, max_examples=100)
@given(scenes())
def test_conservation_in_time(scene):
    """No link moves its bytes faster than its bandwidth in the time it was busy."""
    found = run(scene)
    span_s = found.link_busy_ns / 1e9
    assert (found.link_bytes <= scene["bandwidth"] * span_s * (1 + 1e-9) + 1e-3).all()
    assert (found.sent_ns >= found.start_ns).all()
    assert (found.end_ns >= found.sent_ns).all()


@pytest.mark.parametrize("n", [8, 40])
def test_random_all_to_all_is_exact(n):
    """Enough flows that the loop changes its ways; the busiest port sets the makespan."""
    rng = np.random.default_rng(n)
    src, dst = (x.ravel() for x in np.meshgrid(range(n), range(n)))
    paths = Csr(np.arange(n * n + 1) * 2, np.stack([src, n + dst], axis=1).ravel())
    nbytes = rng.poisson(300, n * n) * 7392.0
    found = simulate(paths, nbytes, 0.0, 0.0, np.full(2 * n, 50 * GB))
    bound = found.link_bytes.max() / 50e9
    assert bound <= found.makespan_s * (1 + 1e-9) <= bound * 1.02
    if n == 8:
        expected = flow_reference.simulate(
            [list(paths.links[2 * i : 2 * i + 2]) for i in range(n * n)],
            nbytes,
            np.zeros(n * n),
            np.zeros(n * n),
            np.full(2 * n, 50 * GB),
            np.full(n * n, np.inf),
            np.zeros(n * n),
            [[] for _ in range(n * n)],
        )
        np.testing.assert_allclose(found.end, expected, rtol=1e-5)
    coarse = simulate(paths, nbytes, 0.0, 0.0, np.full(2 * n, 50 * GB), resolution=0.005)
    assert coarse.fills < found.fills
    np.testing.assert_allclose(coarse.end, found.end, rtol=0.05)
    assert coarse.makespan_s == pytest.approx(found.makespan_s, rel=0.02)


def test_many_links_are_max_min_fair():
    """More links than are looked at one by one (the heap's side of the filling)."""
    rng = np.random.default_rng(5)
    n_links, n = 3000, 9000
    rows = rng.integers(0, n_links, (n, 3))
    bandwidth = rng.uniform(1, 100, n_links) * GB
    cap = np.where(rng.random(n) < 0.1, 3 * GB, np.inf)
    found, bottleneck = fair_rates(Csr(np.arange(n + 1) * 3, rows.ravel()), bandwidth, rate_cap=cap)
    carried = np.bincount(rows.ravel(), weights=np.repeat(found, 3), minlength=n_links)
    fastest = np.zeros(n_links)
    np.maximum.at(fastest, rows.ravel(), np.repeat(found, 3))
    held = bottleneck >= 0
    assert (carried <= bandwidth * (1 + 1e-9)).all()
    assert (rows[held] == bottleneck[held, None]).any(axis=1).all()
    np.testing.assert_allclose(carried[bottleneck[held]], bandwidth[bottleneck[held]])
    assert (found[held] >= fastest[bottleneck[held]] * (1 - 1e-8)).all()
    np.testing.assert_array_equal(found[~held], cap[~held])


def test_parts_that_do_not_meet_do_not_matter():
    """Random traffic beside another on other links ends as it does alone, to the nanosecond."""
    rng = np.random.default_rng(2)
    n = 400
    rows = rng.integers(0, 20, (n, 2)) + np.where(np.arange(n) % 2, 20, 0)[:, None]
    nbytes, start = rng.integers(1, 50, n) * 1e6, rng.integers(0, 50, n) / 1e3
    bandwidth = rng.integers(1, 9, 40) * GB

    def ends(which):
        paths = Csr(np.arange(len(which) + 1) * 2, rows[which].ravel())
        return simulate(paths, nbytes[which], start[which], 0.0, bandwidth).end_ns

    together = ends(np.arange(n))
    for part in (np.arange(0, n, 2), np.arange(1, n, 2)):
        assert np.abs(together[part] - ends(part)).max() <= 1


def test_routes_of_a_graph():
    """Shortest paths of a networkx graph as flows: a star's hub-to-leaf links share nothing."""
    graph = nx.star_graph(6)
    ids = {edge: i for i, edge in enumerate((a, b) for a, b in graph.to_directed().edges)}
    walks = [nx.shortest_path(graph, a, b) for a in range(1, 7) for b in range(1, 7) if a != b]
    paths = [[ids[e] for e in pairwise(walk)] for walk in walks]
    np.testing.assert_allclose(rates(paths, np.ones(len(ids))), 1 / 5)
