"""`faults:` and `reliability:` of a scenario: read, checked with lines, applied like overrides."""

import json

import pytest

from simdeep.errors import InputError
from simdeep.spec.fault_schema import LLAMA_3_GPU_HOURS_PER_FAILURE, Fault
from simdeep.spec.resources import catalogue
from simdeep.spec.scenario import load_scenario

UNFOLDED = "\nsimulate: {fold: false}\n"


@pytest.fixture
def write(tmp_path):
    def scenario(text):
        file = tmp_path / "some.yaml"
        file.write_text(catalogue("scenarios")["dsv3-train-h800"].read_text() + text)
        return file

    return scenario


def problems(path, overrides=None):
    with pytest.raises(InputError) as caught:
        load_scenario(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def line(file, text):
    return file.read_text().splitlines().index(text) + 1


def test_faults_are_overrides_of_the_topology(write):
    faults = """
faults:
  - {gpu: 5, speed: 0.8}
  - {nic: 6, bandwidth: 25 GB/s}
  - {nic: 7, down: true}
  - {nvlink: 8, bandwidth: 80 GB/s}
  - {node: 3, lost: true}
"""
    scenario = load_scenario(write(faults + UNFOLDED))
    topology = scenario.topology
    assert topology.gpu_speeds()[[4, 5]].tolist() == [1.0, 0.8]
    assert topology.nic_bandwidths()[[5, 6, 7]].tolist() == [50e9, 25e9, 0.0]
    assert topology.nvlink_bandwidths()[[7, 8]].tolist() == [160e9, 80e9]
    assert [o.element for o in topology.overrides] == ["gpu 5", "nic 6", "nic 7", "nvlink 8"]
    whole = scenario.without_faults()
    assert whole.topology.overrides == ()
    assert whole.faults == ()
    assert whole.resolved()["faults"] == []


def test_resolved_reads_back(write, tmp_path):
    faults = "\nfaults: [{nic: 6, bandwidth: 25 GB/s}, {gpu: 5, speed: 0.8}]\nreliability: {}\n"
    scenario = load_scenario(write(faults + UNFOLDED))
    assert scenario.resolved()["faults"][1] == {"gpu": 5, "speed": 0.8}
    file = tmp_path / "again.yaml"
    file.write_text(json.dumps(scenario.resolved(), indent=1))
    again = load_scenario(file)
    assert again.faults == scenario.faults
    assert again.fingerprint == scenario.fingerprint
    assert again.fingerprint != scenario.without_faults().fingerprint


@pytest.mark.parametrize(
    ("fault", "key", "says"),
    [
        ("gpu: 2048\n    speed: 0.5", "gpu", "is 2048; h800-2048 has gpu 0 to 2047"),
        ("nic: 2048\n    down: true", "nic", "is 2048; h800-2048 has nic 0 to 2047"),
        ("node: 256\n    lost: true", "node", "is 256; h800-2048 has node 0 to 255"),
        ("gpu: -1\n    speed: 0.5", "gpu", "is -1; must be at least 0"),
        ("speed: 1.2\n    gpu: 5", "speed", "is 1.2; must be at most 1"),
        ("speed: 0\n    gpu: 5", "speed", "is 0; must be more than 0"),
        ("bandwidth: 60 GB/s\n    nic: 5", "bandwidth", "is 60 GB/s; a fault leaves at most 50"),
        ("bandwidth: 25\n    nic: 5", "bandwidth", "25 has no unit"),
        ("gpu: 5", "", "must say what is wrong with the gpu: {gpu: 5, speed: 0.8}"),
        ("gpu: 5\n    down: true", "", "must say what is wrong with the gpu"),
        ("node: 5\n    speed: 0.5", "", "must say what is wrong with the node"),
        ("speed: 0.5", "", "names none of gpu, nic, nvlink, node"),
        ("gpu: 5\n    nic: 5\n    speed: 0.5", "", "names gpu and nic; give one of"),
        ("gpus: 5\n    speed: 0.5", "gpus", "unknown key; did you mean gpu?"),
    ],
)
def test_one_wrong_fault_is_one_problem_at_its_line(write, fault, key, says):
    file = write(f"{UNFOLDED}faults:\n  - {{gpu: 9, speed: 0.9}}\n  - {fault}\n")
    found = problems(file)
    assert len(found) == 1, found
    place = f"faults.1.{key}" if key else "faults.1"
    assert found[0].startswith(f"{file}:{line(file, '  - ' + fault.splitlines()[0])}: {place}: ")
    assert says in found[0]


def test_all_problems_at_once_keep_their_places(write):
    file = write(
        f"{UNFOLDED}faults:\n"
        "  - {gpu: 5, speed: 2}\n"
        "  - {gpu: 6, speed: 0.5}\n"
        "  - {gpu: 6, speed: 0.4}\n"
        "  - {nic: 5000, down: true}\n"
    )
    found = problems(file)
    first = line(file, "faults:")
    assert [p.split(": ")[0] for p in found] == [f"{file}:{first + n}" for n in (1, 3, 4)]
    assert "listed before" in found[1]


def test_folded_gpus_have_no_faults_of_their_own(write):
    file = write("\nfaults: [{gpu: 5, speed: 0.8}]\n")
    (found,) = problems(file)
    assert found.startswith(f"{file}:{line(file, 'faults: [{gpu: 5, speed: 0.8}]')}: faults: ")
    assert found.endswith("set simulate.fold=false")
    load_scenario(file, {"simulate.fold": "false"})
    # A lost node stops the job; it does not change the step.
    load_scenario(write("\nfaults: [{node: 5, lost: true}]\n"))


def test_every_node_needs_a_nic_and_every_gpu_must_run(write, tmp_path):
    down = ", ".join(f"{{nic: {n}, down: true}}" for n in range(8, 16))
    (found,) = problems(write(f"{UNFOLDED}faults: [{down}]\n"))
    assert "node 1 has no NIC left" in found
    text = catalogue("topologies")["h800-2048"].read_text()
    cluster = tmp_path / "dead.yaml"
    cluster.write_text(f"{text}\noverrides: [{{element: gpu 7, down: true}}]\n")
    (found,) = problems(write(UNFOLDED), {"topology": str(cluster)})
    assert "gpu 7 is down, but the layout uses it" in found


def test_a_record_of_one_gpu_cannot_be_unfolded():
    unfolded = {"simulate.fold": "false"}
    (found,) = problems("dsv3-fb-pair-h800", unfolded)
    assert found.startswith("--set simulate.fold=false: simulate.fold: is false, but a pair")
    load_scenario("dsv3-fb-pair-h800", unfolded | {"routing.kind": "gate"})


def test_not_a_list(write):
    (found,) = problems(write("\nfaults: {gpu: 5}\n"))
    assert "must be a list such as [{gpu: 5, speed: 0.8}, ...]" in found


def test_reliability_has_published_defaults(write):
    assert load_scenario(write("")).reliability is None
    given = load_scenario(write("\nfaults: [{node: 5, lost: true}]\n")).reliability
    assert given.mtbf_per_gpu_hours == LLAMA_3_GPU_HOURS_PER_FAILURE == pytest.approx(50_677, abs=1)
    assert load_scenario(write("\nreliability: {}\n")).reliability == given
    file = write("\nreliability: {checkpoint_interval_s: 60, checkpoint_interval_steps: 3}\n")
    (found,) = problems(file)
    assert "not both" in found


def test_a_fault_says_what_it_is_of():
    assert Fault(node=3, lost=True).element == ("node", 3)
    assert Fault(gpu=0, speed=1.0).element == ("gpu", 0)
