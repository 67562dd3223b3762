"""Small models on two nodes: spaces whose every candidate can be simulated."""

from pathlib import Path

import pytest

from tests.cli.conftest import CLUSTER, MOE

DENSE = """\
kind: train
model: llama-3.1-8b
topology: cluster.yaml
layout: {tp: 4, pp: 2, dp: 2, sp: true}
train: {schedule: 1f1b, seq_len: 2048, gbs: 32, recompute: full}
goal: {tokens: 1.0e12}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder with a dense and a MoE scenario."""
    path = tmp_path_factory.mktemp("plans")
    (path / "cluster.yaml").write_text(CLUSTER)
    (path / "dense.yaml").write_text(DENSE)
    (path / "moe.yaml").write_text(MOE)
    return path
