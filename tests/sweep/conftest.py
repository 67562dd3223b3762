"""A scenario that takes milliseconds, and the command line in this process and in others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app

SCENARIO = """\
kind: train
model: llama-3.1-8b
topology: toy-2x8
layout: {tp: 4, pp: 2, sp: true}
train: {schedule: 1f1b, seq_len: 1024, gbs: 16, recompute: full}
"""
SEEDS = "simulate.seed=1:60:60"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "SIMDEEP_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with `tiny.yaml` in it."""
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*arguments):
    """`simdeep sweep` in this process, on one core."""
    given = {"merge", "--backend", "--jobs"} & set(arguments)
    jobs = () if given else ("--jobs", "1")
    return CliRunner().invoke(app, ["sweep", *map(str, arguments), *jobs])


def start(folder, *arguments):
    """`simdeep sweep` in a process of its own."""
    command = [sys.executable, "-m", "simdeep.cli", "sweep", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(store):
    """The whole lines of a store, sorted: points come in any order."""
    return sorted(store.read_text().splitlines()) if store.exists() else []


def rows(store):
    """The rows of a store, without its header."""
    return [row for row in map(json.loads, lines(store)) if "key" in row]


def wait_until(condition, seconds=60.0):
    """Wait for something another process does; says whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def children(pid):
    """Processes below one, however deep."""
    found, parents = [], {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += level
    return found


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
