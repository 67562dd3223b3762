"""Sweeps in processes of their own: killed, stopped, two at once, on a cluster."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.sweep.conftest import SEEDS, alive, children, lines, rows, start, sweep, wait_until

POINTS = 60


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The store of a sweep that nothing happened to."""
    from tests.sweep.conftest import SCENARIO

    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(SCENARIO)
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert sweep("tiny.yaml", "--vary", SEEDS).exit_code == 0
    finally:
        os.chdir(before)
    found = lines(folder / "tiny.sweep.jsonl")
    assert len(found) == POINTS + 1
    return found


def test_killed_and_resumed(folder, uninterrupted):
    store = folder / "store.jsonl"
    process = start(folder, "tiny.yaml", "--vary", SEEDS, "--jobs", "2", "--store", store)
    assert wait_until(lambda: len(lines(store)) > 5)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    before = lines(store)
    assert 5 < len(before) <= POINTS
    assert wait_until(lambda: not any(map(alive, workers))), "workers outlive the sweep"
    result = sweep("tiny.yaml", "--vary", SEEDS, "--store", store, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["computed"] == POINTS - len([x for x in before if "key" in x])
    assert lines(store) == uninterrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(folder, uninterrupted, number, code):
    store = folder / "store.jsonl"
    process = start(folder, "tiny.yaml", "--vary", SEEDS, "--jobs", "2", "--store", store)
    assert wait_until(lambda: len(lines(store)) > 5)
    workers = children(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Stopped;" in errors
    assert "Traceback" not in errors
    assert wait_until(lambda: not any(map(alive, workers))), "workers outlive the sweep"
    assert set(lines(store)) <= set(uninterrupted)
    assert 5 < len(lines(store)) <= POINTS


def test_two_at_once_lose_nothing(folder, uninterrupted):
    store = folder / "store.jsonl"
    flags = ("tiny.yaml", "--vary", SEEDS, "--jobs", "1", "--store", store, "--json")
    both = [start(folder, *flags) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert lines(store) == uninterrupted
    assert answers[0]["points"] == answers[1]["points"]
    assert sum(answer["computed"] for answer in answers) >= POINTS


@pytest.fixture
def cluster(tmp_path):
    """A dask scheduler with two worker processes of one thread each."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    address = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    worker += ["--host", "127.0.0.1", "--local-directory", str(tmp_path / "dask")]
    with contextlib.ExitStack() as stack:

        def launch(*arguments):
            process = subprocess.Popen([*dask, *arguments], **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)

        launch("scheduler", "--scheduler-file", str(file), *address)
        assert wait_until(file.exists)
        for _ in range(2):
            launch("worker", "--scheduler-file", str(file), *worker)
        yield file
    shutil.rmtree(tmp_path / "dask", ignore_errors=True)


def test_on_a_dask_cluster(folder, cluster, uninterrupted):
    flags = ("--vary", SEEDS, "--backend", "dask", "--scheduler-file", cluster, "--json")
    result = sweep("tiny.yaml", *flags)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["computed"] == POINTS
    assert lines(folder / "tiny.sweep.jsonl") == uninterrupted
    again = sweep("tiny.yaml", *flags)
    assert json.loads(again.stdout)["computed"] == 0


def test_shards_merged_are_the_whole(folder, uninterrupted):
    for i in (1, 2, 3):
        result = sweep("tiny.yaml", "--vary", SEEDS, "--shard", f"{i}/3", "--json")
        assert json.loads(result.stdout)["counts"]["points"] == POINTS // 3
    parts = sorted(folder.glob("tiny.sweep-*.jsonl"))
    assert len(parts) == 3
    result = sweep("merge", *parts, "--store", "all.jsonl")
    assert result.stdout == f"all.jsonl: {POINTS} rows, {POINTS} of them new.\n"
    assert lines(folder / "all.jsonl") == uninterrupted
    whole = sweep("tiny.yaml", "--vary", SEEDS, "--store", "all.jsonl", "--json")
    assert json.loads(whole.stdout)["computed"] == 0
    assert len(rows(folder / "all.jsonl")) == POINTS
