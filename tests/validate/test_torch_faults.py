"""What is wrong is found, said, and leaves no process behind."""

import dataclasses
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from simdeep.errors import InputError
from simdeep.program.schedule import Act, Table, build_table
from simdeep.validate import Case, ModelSize, RunError, Runtime, require_torch, run_cases
from simdeep.validate.model import digest, gradient_error, make_stage, run_reference


def without(table: Table, act: Act) -> Table:
    rows = tuple(tuple(cell for cell in row if cell != act) for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def test_a_lost_weight_gradient_is_found():
    table = without(build_table("zb1p", 2, 4), Act("W", 1, 2))
    (outcome,) = run_cases([Case(table, Runtime.SIMDEEP)], timeout_s=120)
    assert not outcome.equal
    errors = {gradient.stage: gradient.error for gradient in outcome.gradients}
    assert errors[0] < 1e-12
    assert errors[1] > 1e-2


def test_the_error_of_a_gradient():
    size = ModelSize(width=4, rows=2, seed=7)
    reference = run_reference(size, 2, 3)
    stage = make_stage(size, 1)
    assert gradient_error(stage, reference.gradients[1]) == math.inf
    for name, parameter in stage.named_parameters():
        parameter.grad = reference.gradients[1][name].clone()
    assert gradient_error(stage, reference.gradients[1]) == 0.0
    before = digest(stage)
    entry = stage[0].up.weight.grad
    entry[0, 0] += 0.5 * entry.abs().max()
    assert gradient_error(stage, reference.gradients[1]) == pytest.approx(0.5)
    assert digest(stage) != before
    entry[0, 0] = math.nan
    assert gradient_error(stage, reference.gradients[1]) == math.inf


def test_the_reference_is_what_single_steps_of_autograd_give():
    size = ModelSize(width=3, rows=2)
    reference = run_reference(size, 2, 2)
    stages = [make_stage(size, stage) for stage in range(2)]
    again = [make_stage(size, stage) for stage in range(2)]
    for one, two in zip(stages, again, strict=True):
        assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(stages[0][0].up.weight, stages[1][0].up.weight)
    assert not torch.equal(
        stages[0][0].up.weight, make_stage(ModelSize(3, 2, seed=1), 0)[0].up.weight
    )
    assert all(grad.abs().max() > 0 for stage in reference.gradients for grad in stage.values())


def test_ranks_that_wait_for_each_other_are_named():
    rows = (
        (Act("F", 0, 0), Act("B", 0, 0), Act("F", 0, 1), Act("B", 0, 1)),
        (Act("F", 1, 0), Act("F", 1, 1), Act("B", 1, 0), Act("B", 1, 1)),
    )
    table = Table("stuck", rows, 2, 2, ((0, 1),))
    with pytest.raises(RunError, match=r"rank \d waits for inputs of (0B0|1F1)"):
        run_cases([Case(table, Runtime.SIMDEEP)], timeout_s=12)
    assert multiprocessing.active_children() == []


def test_a_failing_rank_ends_the_run_with_its_traceback():
    table = without(build_table("zb1p", 2, 2), Act("I", 1, 1))
    began = time.monotonic()
    with pytest.raises(RunError, match="KeyError"):
        run_cases([Case(table, Runtime.SIMDEEP)], timeout_s=60)
    assert time.monotonic() - began < 25
    assert multiprocessing.active_children() == []


def test_an_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr("simdeep.validate.torch_extra.metadata.version", lambda name: "2.5.1+cpu")
    with pytest.raises(InputError, match=r"needs torch 2\.6 or newer, 2\.5\.1\+cpu is installed"):
        require_torch()


def session_of(leader: int) -> set[int]:
    """Processes of a session that still run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_goes_on_when_the_command_is_ended(number, code):
    command = "validate schedule 1f1b --pp 2 -m 512 --width 256 --rows 256 --runtime simdeep"
    # What a killed command leaves in the temporary folder goes with it; the name of a socket in
    # there must be short, which that of `tmp_path` is not.
    with tempfile.TemporaryDirectory() as folder:
        running = subprocess.Popen(
            [sys.executable, "-m", "simdeep.cli", *command.split()],
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # The command, its fork server, the resource tracker, and two ranks.
            until(lambda: len(session_of(running.pid)) >= 5, 60)
            os.kill(running.pid, number)
            assert running.wait(20) == code
            until(lambda: not session_of(running.pid), 20)
        finally:
            for pid in session_of(running.pid):
                os.kill(pid, signal.SIGKILL)
            running.wait()


def until(done, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.05)
