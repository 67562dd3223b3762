"""Tiny scenarios on two toy nodes, and a command line run in-process at a fixed width."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simdeep.cli.app import app

CLUSTER = """\
description: two nodes of 8 H100
gpu: h100
gpus: 16
gpus_per_node: 8
nic: {bandwidth: 400 Gbit/s, latency: 3 us}
fabric: {kind: single-switch, ports_per_switch: 16}
usd_per_gpu_hour: 2.5
"""

DENSE = """\
kind: train
model: llama-3.1-8b
topology: toy-2x8
layout: {tp: 4, pp: 2, dp: 2, sp: true}
train: {schedule: 1f1b, seq_len: 1024, gbs: 16, recompute: full}
"""

MOE = """\
kind: train
model: deepseek-v2-lite
topology: cluster.yaml
layout: {pp: 2, ep: 8, dp: 8}
train: {schedule: dualpipe, seq_len: 1024, gbs: 64, comm_sms: 16}
routing: {kind: gate, draws: 3}
goal: {tokens: 2.0e12}
"""

PAIR = """\
kind: fb-pair
model: deepseek-v2-lite
topology: cluster.yaml
layout: {ep: 8, dp: 8}
layers: {first: 1, count: 2}
train: {seq_len: 1024, comm_sms: 16}
"""

TERMINAL = ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Nothing of the developer's terminal or of simdeep's switches reaches a test."""
    for name in [*TERMINAL, *(n for n in os.environ if n.startswith("SIMDEEP_"))]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory) -> dict[str, str]:
    """Paths of the tiny scenarios by name."""
    folder: Path = tmp_path_factory.mktemp("scenarios")
    (folder / "cluster.yaml").write_text(CLUSTER)
    found = {}
    for name, text in (("dense", DENSE), ("moe", MOE), ("pair", PAIR)):
        path = folder / f"{name}.yaml"
        path.write_text(text)
        found[name] = str(path)
    return found


class Cli:
    """Runs `simdeep` with arguments; a traceback is never an acceptable answer."""

    def __call__(self, *args: object, code: int = 0):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.output
        return result


@pytest.fixture(scope="session")
def cli() -> Cli:
    return Cli()
