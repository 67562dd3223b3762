import dataclasses
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simdeep.errors import InputError
from simdeep.program.routing import (
    Gate,
    Popularity,
    RoutingTrace,
    balance,
    contiguous,
    draw_dispatches,
    draw_loads,
    explicit,
    gate_tokens,
    parse_popularity,
    point_to_point,
    read_trace,
    replay,
    routing_stats,
    traffic,
    updated_bias,
    write_trace,
)
from simdeep.program.routing.make_example import example

V3 = Gate(256, 8, n_groups=8, topk_groups=4)
TINY = {
    "layer": [4, 3, 3, 3],
    "token": [0, 0, 1, 0],
    "experts": [[0, 1], [2, 3], [1, 0], [3, 2]],
    "microbatch": [0, 1, 0, 0],
    "source": [1, 0, 0, 1],
    "n_experts": 4,
}


def save(path, **changes):
    columns = {k: v for k, v in (TINY | changes).items() if v is not None}
    np.savez(path, **{k: np.asarray(v) for k, v in columns.items()})
    return path


def problems(path, n_experts=None):
    with pytest.raises(InputError) as caught:
        read_trace(path, n_experts)
    assert all(p.place == str(path) for p in caught.value.problems)
    return "\n".join(f"{p.key}: {p.message}" for p in caught.value.problems)


def same(one, other):
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name))
        for f in dataclasses.fields(RoutingTrace)
        if f.name != "path"
    )


def slow_traffic(experts, source, rank_of, per_node, ranks):
    """Copies over both networks, by sets."""
    ib, nvl = np.zeros((ranks, ranks)), np.zeros((ranks, ranks))
    for chosen, src in zip(experts, source, strict=True):
        gpus = {rank_of[int(e)] for e in chosen}
        for node in {g // per_node for g in gpus}:
            landing = node * per_node + src % per_node
            ib[src, landing] += node != src // per_node
            for gpu in gpus:
                if gpu // per_node == node:
                    nvl[landing, gpu] += gpu != landing
    return ib, nvl


@pytest.mark.parametrize(("ranks", "per_node"), [(4, 8), (8, 8), (16, 8), (32, 4), (64, 8)])
def test_traffic_is_that_of_a_walk_over_tokens(ranks, per_node):
    experts, source = gate_tokens(V3, ranks, 20, 0.3, seed=1, draw=0)
    placement = contiguous(256, ranks, per_node)
    made = traffic(experts, source, placement)
    ib, nvl = slow_traffic(experts, source, placement.slot_rank, per_node, ranks)
    assert np.array_equal(made.ib, ib)
    assert np.array_equal(made.nvl, nvl)
    direct = point_to_point(experts, source, placement)
    gpus = placement.slot_rank[experts]
    for k in range(ranks):
        assert np.array_equal(
            direct.rows[k], np.bincount(gpus[source == k].ravel(), minlength=ranks)
        )
        assert direct.copies[k].sum() == sum(len(set(g)) for g in gpus[source == k])


def test_traffic_sums_to_the_loads_of_every_draw():
    dispatches = draw_dispatches(V3, 16, 8, 4096, "gate", 0.2, draws=3, max_tokens=8192)
    loads = dispatches.loads()
    for draw in range(3):
        matrix = dispatches.traffic(draw)
        assert matrix.ib.sum(axis=1) == pytest.approx(loads.ib_out_copies[draw])
        assert matrix.ib.sum(axis=0) == pytest.approx(loads.ib_in_copies[draw])
        assert matrix.nvl.sum(axis=1) == pytest.approx(loads.nvl_out_copies[draw])
        assert matrix.nvl.sum(axis=0) == pytest.approx(loads.nvl_in_copies[draw])
        assert np.all(matrix.ib[:8, :8] == 0)
        assert np.all(matrix.nvl[:8, 8:] == 0)
        assert np.all(matrix.ib[~np.eye(16, dtype=bool)[:, (np.arange(16) + 8) % 16]] == 0)


def test_traffic_with_replicas_takes_them_in_turn():
    placement = explicit([[0, 3], [1]], ranks=4, gpus_per_node=2)
    experts = np.array([[0], [1], [0], [0]], dtype=np.int16)
    source = np.zeros(4, dtype=np.int32)
    made = traffic(experts, source, placement)
    assert made.ib[0].tolist() == [0, 0, 1, 0]
    assert made.nvl.tolist() == [[0, 1, 0, 0], [0] * 4, [0, 0, 0, 1], [0] * 4]
    assert point_to_point(experts, source, placement).rows[0].tolist() == [2, 1, 0, 1]


def test_traffic_of_the_reference_run_is_quick():
    for ranks, tokens, placement in (
        (64, 4096, contiguous(256, 64, 8)),
        (320, 128, explicit([[e, 256 + e] if e < 64 else [e] for e in range(256)], 320, 8)),
    ):
        experts, source = gate_tokens(V3, ranks, tokens, 0.072, 0, 0)
        spent = []
        for _ in range(3):
            start = time.process_time()
            made = traffic(experts, source, placement)
            direct = point_to_point(experts, source, placement)
            spent.append(time.process_time() - start)
        assert min(spent[1:]) < 0.1
        assert direct.rows.sum() == ranks * tokens * 8
        assert made.nvl.sum() < direct.copies.sum()


def test_bias_update_moves_by_the_sign_of_the_error():
    moved = updated_bias(np.zeros(3), np.array([1.0, 2.0, 3.0]), speed=0.01)
    assert moved.tolist() == [0.01, 0, -0.01]


@pytest.mark.parametrize("skew", [0.5, Popularity("zipf", 0.6)], ids=["normal", "zipf"])
def test_bias_update_balances_a_skewed_gate(skew):
    """128 tokens of an expert a step: chance alone gives the busiest of 64 1.2 of the mean."""
    gate = Gate(64, 8, n_groups=8, topk_groups=4)
    run = balance(gate, skew, steps=250, tokens=1024, speed=0.002, seed=1)
    free = balance(gate, skew, steps=20, tokens=1024, speed=0.0, seed=1)
    assert run.max_over_mean[0] == free.max_over_mean[0]
    assert free.max_over_mean.min() > 2.5
    assert run.max_over_mean[-20:].mean() < 1.35
    assert np.ptp(run.bias) > 0.2
    with pytest.raises(InputError, match="0 steps"):
        balance(gate, skew, steps=0, tokens=1)


def test_zipf_popularity_gives_zipf_loads():
    """One expert a token, no groups: the i-th expert's share is i**-s over the sum."""
    gate = Gate(64, 1, scoring="softmax")
    experts, _ = gate_tokens(gate, 1, 400_000, Popularity("zipf", 1.2), 0, 0)
    share = np.sort(np.bincount(experts.ravel(), minlength=64))[::-1] / len(experts)
    law = np.arange(1, 65) ** -1.2
    assert share == pytest.approx(law / law.sum(), rel=0.08)


def test_popularity_reads_back_and_is_checked():
    for text in ("zipf:1.2", "normal:0.072"):
        assert str(parse_popularity(text)) == text or parse_popularity(
            str(parse_popularity(text))
        ) == parse_popularity(text)
    assert parse_popularity("uniform") == parse_popularity("0") == Popularity("normal", 0.0)
    for text in ("zipf", "zipf:", "zapf:1", "zipf:nan", "1:2"):
        with pytest.raises(InputError, match="must be 'uniform', a number"):
            parse_popularity(text)
    for text in ("zipf:5.1", "-1", "normal:11", "zipf:inf"):
        with pytest.raises(InputError, match="must be from 0 to"):
            parse_popularity(text)


def test_skewed_routing_is_uneven_and_uniform_is_not():
    uniform, zipf = (
        routing_stats(draw_loads(V3, 64, 8, 512, "gate", parse_popularity(t), draws=2), 8)
        for t in ("uniform", "zipf:1.2")
    )
    assert uniform.max_over_mean_gpu < 1.1
    assert zipf.max_over_mean_gpu > 3
    assert zipf.nodes_per_token <= 4


def test_shipped_example_is_what_its_maker_makes():
    shipped = read_trace()
    assert same(shipped, example())
    assert shipped.n_experts == 256
    assert shipped.topk == 8
    stats = routing_stats(replay(shipped, contiguous(256, 16, 8)).loads(), 8)
    assert stats.max_over_mean_expert > 1.5


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@pytest.mark.parametrize("source", [True, False])
def test_traces_read_back(tmp_path, suffix, source):
    trace = example() if source else dataclasses.replace(example(), source=None)
    if not source:  # token numbers must then be unique in a dispatch
        trace = dataclasses.replace(trace, token=np.arange(len(trace.token)))
    path = tmp_path / f"trace.{suffix}"
    write_trace(path, trace)
    assert same(read_trace(path), trace)


def test_rows_come_in_the_order_of_dispatches(tmp_path):
    trace = read_trace(save(tmp_path / "tiny.npz"))
    parts = list(trace.dispatches(2))
    assert [(layer, mb) for layer, mb, _, _ in parts] == [(3, 0), (3, 1), (4, 0)]
    assert parts[0][2].tolist() == [[1, 0], [3, 2]]
    assert parts[0][3].tolist() == [0, 1]
    unsourced = read_trace(save(tmp_path / "dealt.npz", source=None, token=[0, 0, 1, 2]))
    assert next(iter(unsourced.dispatches(4)))[3].tolist() == [0, 2]


def test_replay_gives_the_recorded_loads():
    trace = read_trace()
    placement = contiguous(256, 16, 8)
    dispatches = replay(trace, placement)
    assert dispatches.draws == 4
    assert np.all(dispatches.tokens == 128)
    first = slice(0, 2048)
    ib, nvl = slow_traffic(
        trace.experts[first], trace.source[first], placement.slot_rank, 8, ranks=16
    )
    assert np.array_equal(dispatches.traffic(0).ib, ib)
    assert np.array_equal(dispatches.traffic(0).nvl, nvl)
    scaled = draw_loads(V3, 16, 8, 512, "recorded", file="example-trace")
    assert scaled.unique == pytest.approx(dispatches.loads().unique * 4)
    assert np.all(scaled.rows % 128 == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"experts": [[0, 1], [2, 3], [1, 0], [3, 4]]},
            "experts: row 3 (layer 3, microbatch 0, token 0) names experts 3, 4; experts are 0 "
            "to 3 (1 such rows)",
        ),
        ({"experts": [[0, 1], [2, -1], [1, 0], [3, 2]]}, "names experts 2, -1; experts are"),
        (
            {"experts": [[0, 1], [2, 2], [1, 0], [3, 2]]},
            "row 1 (layer 3, microbatch 1, token 0) names experts 2, 2; a token has each",
        ),
        ({"experts": [0, 1, 2, 3]}, "experts: has shape [4]; must be [rows, topk]"),
        ({"experts": [[0, 1]] * 3}, "layer: has 4 rows, experts has 3"),
        ({"experts": [[0.5, 1]] * 4}, "experts: holds float64; must be whole numbers"),
        ({"experts": np.zeros((0, 2), int)}, "experts: is empty"),
        ({"experts": np.zeros((4, 0), int)}, "experts: is empty"),
        ({"experts": None}, "experts: is missing"),
        ({"layer": [[1]] * 4}, "layer: has shape [4, 1]; must be [rows]"),
        ({"layer": [0, 0, -1, 0]}, "layer: row 2 has -1; must be from 0"),
        ({"source": [0, 0, 0, -2]}, "source: row 3 has -2; must be from 0"),
        ({"token": [0, 0, 0, 0], "source": None}, "token: row 3 (layer 3, microbatch 0, token 0)"),
        ({"n_experts": 0}, "n_experts: is 0; must be 1 to 32767"),
        ({"n_experts": [4]}, "n_experts: must be one whole number"),
        ({"n_experts": None}, "n_experts: is missing"),
    ],
)
def test_bad_traces_are_refused_with_their_place(tmp_path, changes, message):
    assert message in problems(save(tmp_path / "bad.npz", **changes))


def test_several_problems_come_at_once(tmp_path):
    text = problems(save(tmp_path / "bad.npz", experts=[[0, 0], [9, 1], [1, 0], [3, 2]]))
    assert "names experts 0, 0" in text
    assert "names experts 9, 1" in text


def test_files_that_are_no_traces_are_refused(tmp_path):
    for name, content in (("a.npz", b""), ("b.npz", b"PK\x03\x04 no"), ("c.parquet", b"PAR1")):
        path = tmp_path / name
        path.write_bytes(content)
        assert "cannot be read as" in problems(path)
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert "cannot be read as npz" in problems(folder)
    objects = tmp_path / "objects.npz"
    np.savez(objects, layer=np.array([{}], dtype=object))
    assert "cannot be read as npz" in problems(objects)
    stray = tmp_path / "stray.npz"
    with zipfile.ZipFile(stray, "w") as archive:
        archive.writestr("layer", b"no array")
    assert "layer: is missing" in problems(stray)
    text = tmp_path / "trace.csv"
    text.write_text("layer,token\n")
    assert "a file in .npz or .parquet" in problems(text)
    with pytest.raises(InputError, match="did you mean 'example-trace'"):
        read_trace("example-trac")


def test_bad_parquet_is_refused(tmp_path):
    path = tmp_path / "bad.parquet"

    def write(**changes):
        base = {"layer": [0, 0], "token": [0, 1], "experts": [[0, 1], [2, 3]]} | changes
        table = pa.table({k: pa.array(v) for k, v in base.items()})
        pq.write_table(table, path)

    write()
    assert read_trace(path, 4).experts.tolist() == [[0, 1], [2, 3]]
    write(experts=[[0, 1], [2]])
    assert "row 1 has 1 experts" in problems(path, 4) or "row 0 has 2" in problems(path, 4)
    write(experts=[[0, 1], None])
    assert "has 1 empty values" in problems(path, 4)
    write(experts=[[0, 1], [2, None]])
    assert "has 1 empty values" in problems(path, 4)
    write(experts=[1, 2])
    assert "must be a list of whole numbers a row" in problems(path, 4)
    write(layer=[0.5, 1.0])
    assert "layer: holds double" in problems(path, 4) or "float64" in problems(path, 4)


def test_traces_must_fit_the_run(tmp_path):
    assert "is 4; the gate has 8" in problems(save(tmp_path / "tiny.npz"), 8)
    trace = read_trace(tmp_path / "tiny.npz")
    with pytest.raises(InputError, match="is 4; 8 experts are placed"):
        replay(trace, contiguous(8, 2, 2))
    with pytest.raises(InputError, match="comes from rank 1; the expert-parallel group has"):
        replay(trace, contiguous(4, 1, 1))
    with pytest.raises(InputError, match="tokens have 2 experts; the gate takes 1"):
        draw_dispatches(Gate(4, 1), 2, 2, 2, "recorded", file=tmp_path / "tiny.npz")
