"""DeepSeek-V3's own statements: 3.2 experts a node for free, 3.97 nodes and 7.49 GPUs a token."""

from __future__ import annotations

import numpy as np
import pytest

from simdeep.cost.moe import (
    HopCopies,
    PortLinks,
    dispatch_combine,
    experts_within_ib_time,
    ideal_kernels,
    node_limit_times,
)
from simdeep.program.routing import Gate, hits_per_token
from simdeep.spec.model import MoeFfn, load_model

LINKS = PortLinks(nvlink_bw=160e9, nic_bw=50e9)


def spread(experts_per_node: float, nodes: int = 4) -> HopCopies:
    """Every token on `nodes` other nodes, each expert on a GPU other than where it lands."""
    ones = np.ones((1, 64))
    tokens, copies = 4096 * ones, 4096 * nodes * experts_per_node * ones
    ib = 4096 * nodes * ones
    return HopCopies(8, ib, ib, copies, copies, ib, ib, copies, copies, tokens)


def test_3_2_experts_a_node_and_13_in_all() -> None:
    assert experts_within_ib_time(160e9, 50e9, 4) == (3.2, 13)


@pytest.mark.parametrize("direction", ["dispatch", "combine"])
def test_up_to_3_2_experts_a_node_cost_the_ib_time(direction: str) -> None:
    size = 7392 if direction == "dispatch" else 14336
    ib_time = 4096 * 4 * size / 50e9

    def seconds(experts: float) -> float:
        found = dispatch_combine(
            spread(experts),
            LINKS,
            "combine" if size > 8000 else "dispatch",
            kernels=ideal_kernels(),
        )
        return float(found.time_s[0])

    # The shorter hop shows in one chunk of 410 only.
    assert seconds(1.0) == pytest.approx(ib_time, rel=0.003)
    assert seconds(3.2) == pytest.approx(ib_time, rel=0.003)
    assert seconds(4.0) == pytest.approx(ib_time * 4.0 / 3.2, rel=0.003)


def test_13_routed_experts_cost_the_ib_time() -> None:
    """Real routing, where some experts share a GPU or sit where the token lands, has room left."""
    for topk in (8, 13):
        found = node_limit_times(LINKS, topk=topk, limit=4, tokens=1024)
        assert found.bottleneck == "ib"
        assert found.time_s == pytest.approx(found.ib_s, rel=0.01)  # of 102 chunks
    assert node_limit_times(LINKS, topk=20, limit=4, tokens=1024).bottleneck == "nvlink"


def test_fewer_nodes_cost_less_ib() -> None:
    found = [node_limit_times(LINKS, limit=n, tokens=1024) for n in (2, 4, 8)]
    assert found[0].ib_s < found[1].ib_s < found[2].ib_s
    assert [f.nodes_per_token for f in found] == sorted(f.nodes_per_token for f in found)


def test_v3_gating_reaches_3_97_nodes_and_7_49_gpus() -> None:
    moe = next(x.ffn for x in load_model("deepseek-v3").layers if isinstance(x.ffn, MoeFfn))
    nodes, gpus = hits_per_token(moe, 64, 8)
    assert nodes == pytest.approx(3.97, rel=0.01)
    assert gpus == pytest.approx(7.49, rel=0.01)
    assert hits_per_token(Gate(256, 8, 8, 4), 64, 8) == (nodes, gpus)
