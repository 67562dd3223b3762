"""Expert parallel layers on two real processes: rows, gradients, and an end without leftovers."""

import json
import multiprocessing
import os
import signal
import threading
import time

import pytest

from simdeep.calibrate.workers import WorkerError
from simdeep.validate.moe import Case, validate_moe
from tests.validate.test_torch_hooks import TINY


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(TINY))
    return str(path)


def test_rows_and_gradients_are_those_of_one_process(config):
    case = Case(config, tokens=(16, 48), sequence=8, train_steps=2, repeats=2)
    outcome = validate_moe(case)
    assert multiprocessing.active_children() == []
    assert outcome.losses[1] < outcome.losses[0]
    for point, tokens in zip(outcome.points, case.tokens, strict=True):
        # Two MoE layers, two experts a token, two ranks: none lost, none elsewhere.
        assert point.measured_rows.shape == (2, 8)
        assert point.measured_rows.sum(axis=1).tolist() == [2 * 2 * tokens] * 2
        assert point.rows_elsewhere == 0
        assert point.gradient_error <= 1e-5
        assert point.loss == pytest.approx(point.reference_loss, rel=1e-6)
        assert all(t.measured.median_s > 0 < t.predicted_s for t in point.timings.values())


def test_a_killed_worker_ends_the_run_with_its_rank(config):
    case = Case(config, tokens=(64,), sequence=8, train_steps=1, repeats=1000)
    killed = []

    def kill() -> None:
        # The run is the only part with two processes that goes on long enough to be met again.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "run" not in stages[-1:]:
            time.sleep(0.02)
        time.sleep(0.5)
        children = [c for c in multiprocessing.active_children() if c.pid]
        killed.append(time.monotonic())
        os.kill(max(c.pid for c in children), signal.SIGKILL)

    stages: list[str] = []

    def stage(text: str) -> None:
        stages.append("run" if text.startswith("running") else text)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerError, match="rank 1 was killed by signal 9"):
        validate_moe(case, stage)
    assert time.monotonic() - killed[0] < 10
    killer.join()
    assert multiprocessing.active_children() == []
