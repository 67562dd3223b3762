"""Transfers between processes: rows, and what happens when one dies."""

import multiprocessing
import os
import signal
import time

import pytest

from simdeep.calibrate.comm import measure_collectives, measure_p2p
from simdeep.calibrate.cpu_file import transfers_part
from simdeep.calibrate.measure_comm import read_comm, write_comm
from simdeep.calibrate.workers import WorkerError, run_workers


def killed(rank, n):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def failing(rank, n):
    if rank == 0:
        raise ValueError("no such thing")
    time.sleep(60)


def test_rows_of_sends_and_collectives(tmp_path):
    rows = measure_p2p("gloo", (64, 65536), 60.0)
    rows += measure_collectives("gloo", ("all_reduce",), (4096,), 2, 60.0)
    assert [(r.kind, r.bytes) for r in rows] == [
        ("p2p", 64),
        ("p2p", 65536),
        ("p2p_both", 64),
        ("p2p_both", 65536),
        ("all_reduce", 4096),
    ]
    assert all(0 < r.low_s <= r.seconds <= r.high_s for r in rows)
    write_comm(rows, tmp_path / "comm.csv")
    assert [r.kind for r in read_comm(tmp_path / "comm.csv")] == [r.kind for r in rows]
    assert {part["collective"] for part in transfers_part(rows)} == {
        "p2p",
        "p2p_both",
        "all_reduce",
    }


@pytest.mark.parametrize(
    ("work", "words"),
    [(killed, "rank 1 was killed by signal 9"), (failing, "no such thing")],
)
def test_a_dead_worker_ends_the_run(work, words):
    with pytest.raises(WorkerError, match=words):
        run_workers(work, (), 2, "gloo", 60.0)
    assert multiprocessing.active_children() == []


def test_latency_and_bandwidth_are_recovered():
    from simdeep.calibrate.comm import CommRow

    rows = [CommRow("gloo", "p2p", 2, b, 2e-5 + b / 1e9, 0, 0, 7) for b in (64, 10**5, 10**7)]
    (found,) = transfers_part(rows)
    assert found["latency_us"] == pytest.approx(20, rel=1e-6)
    assert found["GBps"] == pytest.approx(1, rel=1e-6)
