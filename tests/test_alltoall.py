"""An all-to-all on a cluster: published figures, the fabric against the kernel alone, training."""

import csv
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from simdeep.api import simulate
from simdeep.cost.moe.constants import DATA, load_kernels, token_bytes
from simdeep.errors import InputError
from simdeep.network import (
    DIRECTIONS,
    Flags,
    draw_tokens,
    fabric,
    prepare,
    read_setting,
    route_tokens,
    run_direction,
    simulate_alltoall,
    sweep_ep,
    sweep_experts_per_node,
    sweep_node_limit,
    sweep_sms,
)
from simdeep.program.columns import Action, Kind
from simdeep.program.routing import Gate, RoutingTrace, gate_tokens, write_trace
from simdeep.spec.scenario import load_scenario

SMALL = """\
description: 16 nodes of 8 H800, two leaves a rail
gpu: h800
gpus: 128
gpus_per_node: 8
nvlink: {bandwidth: 160 GB/s, latency: 3.33 us}
nic: {bandwidth: 50 GB/s, latency: 2.8 us}
fabric: {kind: rail-fat-tree, ports_per_switch: 16, hop_latency: 0.45 us, oversubscription: OVER}
usd_per_gpu_hour: 2.0
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Settings of 128 GPUs on a small cluster, its oversubscription and faults as told."""
    folder = tmp_path_factory.mktemp("clusters")

    def make(over=1, *overrides, **flags):
        text = SMALL.replace("OVER", str(over))
        if overrides:
            text += "overrides:\n" + "".join(f"  - {{{o}}}\n" for o in overrides)
        path = folder / f"small-{abs(hash(text))}.yaml"
        path.write_text(text)
        given = {"ep": 128, "tokens": 512} | flags
        return read_setting(flags=Flags(topology=str(path), **given))

    return make


@cache
def setting(**flags):
    return read_setting(flags=Flags(**flags))


# --- published figures ------------------------------------------------------------------------
def published(name, version="v1"):
    with (DATA / name).open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["version"] == version]


@cache
def deepep(ep):
    return {o.direction: o for o in simulate_alltoall(setting(ep=ep, max_nodes=4))}


@pytest.mark.parametrize("row", published("deepep_h800_normal.csv"), ids=lambda r: r["nodes"])
def test_deepep_table_within_8_percent(row):
    outcome = deepep(8 * int(row["nodes"]))[row["direction"]]
    found = outcome.row()["nvlink_gbps" if row["link"] == "nvlink" else "ib_gbps_logical"]
    assert found == pytest.approx(float(row["logical_gbps"]), rel=0.08)


def test_nvlink_limits_two_nodes_and_ib_more():
    assert {n: deepep(n)["dispatch"].bottleneck for n in (8, 16, 32, 64)} == {
        8: "nvlink",
        16: "nvlink",
        32: "ib",
        64: "ib",
    }


@pytest.mark.parametrize("ep", [8, 16, 64, 128])
def test_low_latency_table_within_15_percent(ep):
    """One leaf for all: what was measured knew no oversubscribed fabric."""
    base = setting(ep=ep, tokens=128, mode="low-latency", topology="h800-2048-rail", draws=2)
    free = replace(base, moe=Gate(256, 8), ecmp="adaptive")
    for outcome in simulate_alltoall(free):
        (row,) = (
            r
            for r in published("deepep_h800_low_latency.csv")
            if r["ep"] == str(ep) and r["direction"] == outcome.direction
        )
        assert outcome.finish_s.mean() * 1e6 == pytest.approx(float(row["time_us"]), rel=0.15)


def test_v3_gating_on_8_nodes():
    routed = prepare(setting(ep=64))
    assert routed.nodes_per_token == pytest.approx(3.97, rel=0.01)
    assert routed.gpus_per_token == pytest.approx(7.49, rel=0.01)


# --- the fabric -------------------------------------------------------------------------------
@pytest.mark.parametrize("topology", ["h800-2048", "h800-2048-rail", "h800-2048-ft3"])
@pytest.mark.parametrize("ep", [8, 64])
@pytest.mark.parametrize("routing", ["uniform", "0.2"])
def test_a_rail_optimised_fabric_changes_nothing(topology, ep, routing):
    for outcome in simulate_alltoall(setting(ep=ep, topology=topology, routing=routing)):
        alone = outcome.kernel.finish_s[0]
        assert outcome.fabric_slowdown == pytest.approx(1, abs=0.002)
        assert outcome.runs[0].finish_s.max() == pytest.approx(alone.max(), rel=0.002)
        assert outcome.runs[0].finish_s == pytest.approx(alone, rel=0.01 if ep == 8 else 0.15)


def test_without_contention_routes_over_spines_only_add_latency(small):
    for outcome in simulate_alltoall(small()):
        extra = outcome.time_s - outcome.kernel_time_s
        assert 0 < extra < 0.01 * outcome.kernel_time_s
        assert outcome.runs[0].hot_between_switches


def test_an_oversubscribed_fabric_takes_as_long_as_its_one_uplink(small):
    """8:1 on 16 ports: leaves of 14 NICs with one uplink, over which the other two nodes talk."""
    given = small(8)
    routed = prepare(given)
    away = routed.dispatches.traffic(0).ib[:112, 112:]
    back = routed.dispatches.traffic(0).ib[112:, :112]
    busiest = max(m[i::8, i::8].sum() for m in (away, back) for i in range(8))
    achieved = 50e9 * load_kernels().nic_efficiency
    for outcome in (run_direction(given, routed, d) for d in DIRECTIONS):
        expected = busiest * token_bytes(outcome.direction, 7168) / achieved
        assert outcome.time_s == pytest.approx(expected, rel=0.15)  # fixed time comes on top
        assert expected < outcome.time_s
        assert outcome.time_s > 1.5 * outcome.kernel_time_s
        hot = outcome.runs[0].hot[0]
        assert outcome.bottleneck == "fabric"
        assert (hot.kind, hot.name.split()[0]) in (("leaf-up", "leaf"), ("leaf-down", "spine"))
        assert hot.utilisation == pytest.approx(1, abs=0.02)


def test_hashed_routes_collide_where_adaptive_ones_do_not(small):
    routed = prepare(small(3))
    found = {
        ecmp: run_direction(small(3, ecmp=ecmp), routed, "dispatch")
        for ecmp in ("adaptive", "hashed")
    }
    assert found["adaptive"].fabric_slowdown < 1.01
    assert found["hashed"].fabric_slowdown > 1.2
    assert found["hashed"].bottleneck == "fabric"
    assert found["hashed"].runs[0].hot[0].kind in ("leaf-up", "leaf-down")


def test_a_broken_nic_sends_its_traffic_through_a_peers(small):
    whole, broken = small(), small(1, "element: nic 5, down: true")
    routed = prepare(whole)
    for direction in DIRECTIONS:
        fine = run_direction(whole, routed, direction)
        found = run_direction(broken, routed, direction)
        assert 1.1 < found.time_s / fine.time_s < 2.1
        assert found.bottleneck == "ib"
        assert "nic" in found.runs[0].hot[0].name
        for kind in ("nic-out", "nic-in"):
            mine, other = (
                o.runs[0].link_bytes[o.setting.topology.link_table().of_kind(kind)].sum()
                for o in (found, fine)
            )
            assert mine == pytest.approx(other)
        nvlink = broken.topology.link_table().of_kind("nvlink-out", "nvlink-in")
        usual = whole.topology.link_table().of_kind("nvlink-out", "nvlink-in")
        assert found.runs[0].link_bytes[nvlink].sum() > fine.runs[0].link_bytes[usual].sum()


def test_a_slow_nic_is_the_hot_port(small):
    slow = small(1, "element: nic 9, bandwidth: 10 GB/s")
    (dispatch, _) = simulate_alltoall(slow)
    assert dispatch.hot_ports(1)[0][0] in ("nic-out of gpu 9", "nic-in of gpu 9")
    assert "nic 9" in dispatch.runs[0].hot[0].name
    assert dispatch.fabric_slowdown == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_link_carries_the_tokens_bytes(direction):
    given = setting(ep=64, routing="0.5", tokens=512)
    routed = prepare(given)
    run = run_direction(given, routed, direction).runs[0]
    matrix, size = routed.dispatches.traffic(0), token_bytes(direction, 7168)
    table, gpus = given.topology.link_table(), given.gpus
    sent, got = (1, 0) if direction == "dispatch" else (0, 1)
    for ports, copies in (
        (table.nic_out, matrix.ib.sum(sent)),
        (table.nic_in, matrix.ib.sum(got)),
        (table.nvlink_out, matrix.nvl.sum(sent)),
        (table.nvlink_in, matrix.nvl.sum(got)),
    ):
        assert run.link_bytes[ports[gpus]] == pytest.approx(copies * size, rel=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_hops_apart_end_when_joined_ones_do(monkeypatch, direction):
    given = setting(ep=64, tokens=1024, routing="0.2")
    routed = prepare(given)
    joined = run_direction(given, routed, direction).runs[0]
    monkeypatch.setattr(fabric, "PIPELINED_FLOWS", 0)
    apart = run_direction(given, routed, direction).runs[0]
    assert apart.flows < joined.flows
    assert apart.time_s == pytest.approx(joined.time_s, rel=0.005)
    assert apart.link_bytes == pytest.approx(joined.link_bytes, rel=1e-6, abs=1.0)


def test_2048_gpus_as_flows_of_single_hops():
    given = setting(ep=2048, tokens=256, placement="eplb", redundant=1792)
    outcome = run_direction(given, prepare(given, 1 << 16), "dispatch")
    assert outcome.runs[0].flows > 300_000
    assert outcome.fabric_slowdown == pytest.approx(1, abs=0.05)


def test_nvlink_domains_need_no_fabric():
    (dispatch, _) = simulate_alltoall(setting(ep=64, topology="gb200-nvl72-576", tokens=512))
    row = dispatch.row()
    assert (row["nodes"], row["ib_bytes_per_gpu"], row["ib_gbps_logical"]) == (1, 0, 0)
    assert row["nvlink_gbps"] > 100


# --- routing and placement --------------------------------------------------------------------
def test_skew_makes_it_slower_and_replicas_help():
    times = [
        simulate_alltoall(setting(ep=64, routing=r, tokens=1024))[0].time_s
        for r in ("uniform", "0.2", "zipf:0.6")
    ]
    assert times == sorted(times)
    load = {
        p: prepare(
            setting(ep=64, routing="zipf:0.6", tokens=1024, placement=p, redundant=n)
        ).max_over_mean_load
        for p, n in (("contiguous", 0), ("eplb", 64), ("search", 64))
    }
    assert load["search"] <= load["eplb"] < load["contiguous"]


def test_placement_by_file(tmp_path):
    ranks = [[4 * r + i for i in range(4)] for r in range(64)]
    path = tmp_path / "experts.json"
    path.write_text(json.dumps({"ranks": ranks}))
    by_file = prepare(setting(ep=64, tokens=256, placement=str(path)))
    assert by_file.gpu_load.tolist() == prepare(setting(ep=64, tokens=256)).gpu_load.tolist()


def test_a_trace_is_replayed_dispatch_by_dispatch():
    given = setting(ep=16, routing="example-trace", tokens=128)
    routed = prepare(given)
    assert routed.dispatches.draws == 4  # two layers of two micro-batches
    assert prepare(replace(given, draws=2)).dispatches.draws == 2
    assert routed.dispatches.tokens.sum(axis=1).tolist() == [16 * 128] * 4
    assert [len(o.runs) for o in simulate_alltoall(given)] == [4, 4]


def test_a_sample_stands_for_all_tokens():
    given = setting(ep=64)
    whole, part = (route_tokens(given, draw_tokens(given, n)) for n in (1 << 20, 1 << 15))
    assert part.dispatches.tokens.sum() == whole.dispatches.tokens.sum() == 64 * 4096
    assert part.gpu_load.sum() == pytest.approx(whole.gpu_load.sum())


# --- sweeps -----------------------------------------------------------------------------------
def test_more_sms_help_until_they_do_not():
    given = setting(ep=64)
    points = sweep_sms(given, prepare(given, 1 << 16))
    for direction in DIRECTIONS:
        times = {p.sms: p.time_s for p in points if p.direction == direction}
        assert times[4] > 1.5 * times[8] > times[20]
        assert times[24] == pytest.approx(times[20], rel=0.02)


def test_other_group_sizes_and_their_bottlenecks():
    given = setting(ep=64, max_nodes=4)
    own = tuple(deepep(64).values())
    points = {(p.direction, p.ep): p for p in sweep_ep(given, own)}
    assert [e for d, e in points if d == "dispatch"] == [8, 16, 32, 64, 128]
    assert points["dispatch", 64].time_s == own[0].time_s
    assert points["dispatch", 16].bottleneck == "nvlink"


def test_3_2_experts_a_node_cost_the_ib_time():
    points = sweep_experts_per_node(setting(ep=64))
    for p in points:
        times_ib = 1.0 if p.experts_per_node <= 3.2 else p.experts_per_node / 3.2
        assert p.time_s == pytest.approx(p.ib_s * times_ib, rel=0.004)


def test_node_limits_cross_where_3_2_experts_a_node_do():
    limits = sweep_node_limit(setting(ep=64))
    assert [p.limit for p in limits] == list(range(1, 9))
    for p in limits:
        assert p.bottleneck == ("nvlink" if 8 / p.nodes_per_token > 3.2 else "ib")
    assert [p.ib_s for p in limits] == sorted(p.ib_s for p in limits)


# --- scenarios --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["normal", "low-latency"])
def test_flags_come_before_what_a_scenario_says(name):
    given = read_setting("alltoall-deepep-normal", {"alltoall.tokens": "64"}, Flags(mode=name))
    assert (given.tokens, given.mode, given.max_nodes) == (64, name, 4)


def test_a_training_scenario_has_a_dispatch():
    given = read_setting("dsv3-train-h800")
    assert (given.ep, given.tokens, given.comm_sms, given.dtype) == (64, 4096, 20, "fp8")
    assert given.routing_text == "normal:0.072"


def test_settings_that_cannot_be():
    for flags, key in (
        (Flags(ep=63), "ep"),
        (Flags(ep=4096), "ep"),
        (Flags(ep=64, node_stride=64), "ep"),
        (Flags(comm_sms=132), "comm_sms"),
        (Flags(max_nodes=0), "max_nodes"),
    ):
        with pytest.raises(InputError) as caught:
            read_setting(flags=flags)
        assert [p.key for p in caught.value.problems] == [key]


# --- training ---------------------------------------------------------------------------------
CLUSTER = """\
gpu: h800
gpus: 32
gpus_per_node: 8
nic: {bandwidth: 50 GB/s, latency: 2.8 us}
fabric: {kind: rail-fat-tree, ports_per_switch: 16}
usd_per_gpu_hour: 2.0
"""
TRAIN = """\
kind: train
model: deepseek-v2-lite
topology: cluster.yaml
layout: {pp: 2, ep: 16, dp: 16}
train: {schedule: 1f1b, seq_len: 2048, gbs: 128, comm_sms: 20}
routing: {kind: gate, skew: 0, draws: 4}
jitter: {kernel_cv: 0}
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "cluster.yaml").write_text(CLUSTER)
    (folder / "train.yaml").write_text(TRAIN)
    return folder / "train.yaml"


def steps(path, **routing):
    values = {f"routing.{key}": str(value) for key, value in routing.items()}
    return simulate(load_scenario(path, values))


def transfer_s(result, component):
    """Seconds of a step's forward transfers of a kind, set-up apart, mean over them."""
    timeline = result.timeline
    program = timeline.program
    rows = (program.kind == Kind.TRANSFER) & (program.action == Action.F)
    rows &= program.component == program.components.index(component)
    lasted = timeline.end_ns - timeline.start_ns - timeline.priced.latency_ns
    return float(lasted[rows].mean()) / 1e9


def test_a_skewed_routing_makes_the_step_slower_by_its_all_to_all(train):
    even, skewed = steps(train), steps(train, skew=0.4)
    assert skewed.step_time_s > even.step_time_s
    for o_even, o_skewed in zip(
        simulate_alltoall(read_setting(train, flags=Flags(routing="uniform", draws=4))),
        simulate_alltoall(read_setting(train, flags=Flags(routing="0.4", draws=4))),
        strict=True,
    ):
        ours = o_skewed.time_s / o_even.time_s
        step = transfer_s(skewed, o_even.direction) / transfer_s(even, o_even.direction)
        assert ours > 1.03
        assert step == pytest.approx(ours, rel=0.02)


def test_zipf_as_a_scenarios_skew(train):
    assert steps(train, skew="zipf:0.5").step_time_s > steps(train).step_time_s
    with pytest.raises(InputError, match="zipf:NUMBER"):
        load_scenario(train, {"routing.skew": "zap:1"})


def test_a_replayed_trace_makes_the_step_slower(train, tmp_path):
    def trace(name, skew):
        experts, source = gate_tokens(Gate(64, 6, scoring="softmax"), 16, 512, skew, 1, 0)
        path = tmp_path / name
        rows = len(source)
        layer = np.zeros(rows, np.int32)
        token = np.arange(rows, dtype=np.int64)
        write_trace(path, RoutingTrace(64, layer, layer, token, experts, source))
        return path

    times = [
        steps(train, kind="recorded", file=trace(f"{skew}.npz", skew)).step_time_s
        for skew in (0.0, 0.5)
    ]
    assert times[0] < times[1]


def test_dsv3_steps_grow_with_the_skew():
    times = [steps("dsv3-train-h800", skew=s, draws=8).step_time_s for s in (0, 0.072, 0.2)]
    assert times[0] < times[1] < times[2]


def test_dsv3_replays_a_recorded_trace(tmp_path):
    """Skewed tokens of the shipped gate, from all 64 ranks of the step's groups."""
    experts, source = gate_tokens(Gate(256, 8, 8, 4), 64, 256, 0.3, 0, 0)
    zero = np.zeros(len(source), np.int32)
    token = np.arange(len(source), dtype=np.int64)
    path = tmp_path / "trace.npz"
    write_trace(path, RoutingTrace(256, zero, zero, token, experts, source))
    even = steps("dsv3-train-h800", skew=0, draws=4)
    replayed = steps("dsv3-train-h800", kind="recorded", file=path)
    assert replayed.step_time_s > even.step_time_s
