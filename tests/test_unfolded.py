"""Every GPU simulated: equal ones as one folded, unequal ones with jitter, routing and faults."""

import numpy as np
import pytest

from simdeep import api
from simdeep.cost.program import price_program
from simdeep.engine import compiled, compiled_halves, reference
from simdeep.program.lower.train import lower
from simdeep.spec.resources import catalogue
from simdeep.spec.scenario import load_scenario

EXPERTS = {
    "model": "deepseek-v2-lite",
    "layout.tp": "1",
    "layout.sp": "false",
    "layout.ep": "4",
    "routing.kind": "gate",
    "simulate.fold": "false",
}
"""A small mixture of experts on two toy nodes: two pipeline ranks of eight GPUs."""

EQUAL = {"routing.kind": "balanced", "jitter.kernel_cv": "0"}


def experts(**changes):
    more = {key.replace("__", "."): value for key, value in changes.items()}
    return load_scenario("toy-dense", EXPERTS | more)


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """DeepSeek-V3 as trained, but with expert and data parallelism cut to 8 GPUs a stage."""
    text = catalogue("topologies")["h800-2048"].read_text()
    file = tmp_path_factory.mktemp("cluster") / "h800-128.yaml"
    file.write_text(text.replace("gpus: 2048", "gpus: 128", 1))

    def scenario(**changes):
        more = {key.replace("__", "."): value for key, value in changes.items()}
        cut = {"topology": str(file), "layout.ep": "8", "layout.dp": "8", "train.gbs": "256"}
        return load_scenario("dsv3-train-h800", cut | more)

    return scenario


@pytest.fixture(scope="module")
def plain():
    return api.simulate(experts())


def assert_every_peer_is_the_folded_gpu(folded, unfolded):
    one, every = folded.timeline, unfolded.timeline
    peers = folded.scenario.layout.stage_size
    assert every.program.n_ranks == peers * one.program.n_ranks
    for times in ("start_ns", "end_ns"):
        expected = np.tile(getattr(one, times), peers)
        np.testing.assert_array_equal(getattr(every, times), expected)


def test_deepseek_v3_folded_equals_unfolded_when_peers_are_equal(deepseek):
    runs = [api.simulate(deepseek(simulate__fold=fold, **EQUAL)) for fold in ("true", "false")]
    assert_every_peer_is_the_folded_gpu(*runs)


@pytest.mark.parametrize("schedule", ["1f1b", "zb1p", "dualpipe"])
def test_schedules_folded_equal_unfolded(schedule):
    runs = [
        api.simulate(experts(simulate__fold=fold, train__schedule=schedule, **EQUAL))
        for fold in ("true", "false")
    ]
    assert_every_peer_is_the_folded_gpu(*runs)


@pytest.mark.parametrize("engine", ["whole", "halves"])
def test_engines_agree_with_routing_jitter_and_faults(engine, monkeypatch):
    faults = "[{gpu: 5, speed: 0.8}, {nic: 3, down: true}, {nvlink: 9, bandwidth: 20 GB/s}]"
    scenario = experts(faults=faults, jitter__kernel_cv="0.03", train__schedule="dualpipe")
    lowered = lower(scenario, api.schedule_table(scenario))
    machine = api.machine_of(scenario)
    jitter, unequal = api.jitter_of(scenario, machine), api.unequal_gpus(scenario)
    priced = price_program(lowered.program, machine, jitter, unequal)
    if engine == "halves":
        monkeypatch.setattr(compiled_halves, "WORTHWHILE", 0)
        monkeypatch.setattr(compiled_halves, "_MOST_CROSSING", 1.0)
    found, expected = compiled.run(priced), reference.run(priced)
    np.testing.assert_array_equal(found.start_ns, expected.start_ns)
    np.testing.assert_array_equal(found.end_ns, expected.end_ns)


def test_repeatable_from_the_seed(plain):
    options = {"jitter__kernel_cv": "0.03", "faults": "[{gpu: 5, speed: 0.8}]"}
    once, again = (api.simulate(experts(**options)).timeline for _ in range(2))
    np.testing.assert_array_equal(once.start_ns, again.start_ns)
    np.testing.assert_array_equal(once.end_ns, again.end_ns)
    other = api.step_time_s(experts(simulate__seed="1", **options))
    assert other != once.makespan_ns / 1e9


@pytest.mark.parametrize("faults", ["[]", "[{gpu: 5, speed: 0.8}]"])
def test_step_time_grows_with_sigma_in_the_mean_over_ten_seeds(faults):
    sigmas = (0.0, 0.01, 0.03, 0.1)
    means = [
        api.step_distribution(experts(jitter__kernel_cv=str(sigma), faults=faults), 10).mean_s
        for sigma in sigmas
    ]
    assert means == sorted(set(means))


def test_jitter_does_not_change_how_much_a_gpu_computes():
    scenario = experts(jitter__kernel_cv="0.1")
    lowered = lower(scenario, api.schedule_table(scenario))
    machine = api.machine_of(scenario)
    sums = []
    for jitter in (None, api.jitter_of(scenario, machine)):
        priced = price_program(lowered.program, machine, jitter)
        sums.append(np.bincount(lowered.program.rank, weights=priced.sm_ns + priced.mem_ns))
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-9)


def test_a_slow_gpu_holds_up_everyone(plain):
    scenario = experts(faults="[{gpu: 5, speed: 0.8}]", jitter__kernel_cv="0.03")
    result = api.simulate(scenario)
    cost = api.fault_cost(scenario, result)
    clean = api.step_time_s(experts(jitter__kernel_cv="0.03"))
    assert cost.with_s == result.step_time_s
    assert cost.without_s == clean
    assert cost.added_s == pytest.approx(result.step_time_s - clean)
    # No worse than if every GPU had 80% of its clock, better than the mean GPU's.
    assert 1.05 < cost.ratio < 1 / 0.8
    worst, *others = result.stragglers.slowest()
    assert (worst.rank, worst.why) == (5, "compute")
    kernels = result.stragglers.compute_ns[5] / np.median(result.stragglers.compute_ns[:8])
    assert 1.2 < kernels <= 1 / 0.8  # launch gaps do not stretch
    assert worst.caused_s > 3 * max(other.caused_s for other in others)
    # Its expert-parallel group.
    assert (result.stragglers.most_for[[4, 6, 7]] == 5).all()


def test_slow_and_dead_links_are_found(plain):
    slow = api.simulate(experts(faults="[{nvlink: 5, bandwidth: 5 GB/s}]"))
    worst = slow.stragglers.slowest(1)[0]
    assert (worst.rank, worst.why) == (5, "links")
    assert slow.step_time_s > plain.step_time_s
    dead = api.simulate(experts(faults="[{nic: 5, down: true}]"))
    assert dead.step_time_s >= plain.step_time_s
    # GPU 6 carries what NIC 5 did.
    assert int(dead.stragglers.links_slower_ns.argmax()) == 6


def test_slower_is_never_faster():
    """With the order of everything fixed by streams, less speed anywhere cannot shorten a step."""
    speeds = (1.0, 0.9, 0.7, 0.5)
    steps = [api.step_time_s(experts(faults=f"[{{gpu: 11, speed: {s}}}]")) for s in speeds]
    assert steps == sorted(steps)


def test_distribution_over_steps():
    scenario = experts()
    found = api.step_distribution(scenario, 3)
    assert found.seeds == (0, 1, 2)
    assert found.seconds[0] == api.step_time_s(scenario)
    assert len(set(found.seconds)) == 3
    assert found.quantile_s(0.0) == min(found.seconds)
    assert found.mean_s == pytest.approx(np.mean(found.seconds))
    assert found.std_s == pytest.approx(np.std(found.seconds, ddof=1))
    assert api.step_distribution(scenario, [7]).std_s == 0.0


def test_effective_training_time():
    scenario = experts(
        reliability="{mtbf_per_gpu_hours: 160, restart_s: 300, checkpoint_s: 5, "
        "checkpoint_interval_steps: 50}"
    )
    result = api.simulate(scenario)
    effective = result.effective
    assert effective.interval_s == pytest.approx(50 * result.step_time_s)
    assert effective.failures.mtbf_s == 10 * 3600
    assert effective.ratio == pytest.approx(effective.expected, abs=0.005)
    assert effective.low < effective.ratio < effective.high
    again = api.effective_training(scenario, result.step_time_s)
    assert again.ratio == effective.ratio


def test_folded_runs_have_no_stragglers():
    result = api.simulate(load_scenario("toy-dense"))
    assert result.stragglers is None
    assert result.effective is None
