"""Makes the shipped example of a token trace: `python -m simdeep.program.routing.make_example`.

It is drawn from DeepSeek-V3's gate, not recorded from a run: two layers, two micro-batches, 16
ranks of 128 tokens, experts' popularity by Zipf's law with exponent 0.3, one order of experts for
each layer.
"""

from __future__ import annotations

import sys

import numpy as np

from simdeep.program.routing.draws import gate_tokens
from simdeep.program.routing.gate import Gate
from simdeep.program.routing.popularity import Popularity
from simdeep.program.routing.trace import RoutingTrace
from simdeep.program.routing.trace_file import EXAMPLE, write_trace
from simdeep.spec.resources import resource_dir

GATE = Gate(256, 8, n_groups=8, topk_groups=4)
LAYERS = (3, 4)
MICROBATCHES = 2
RANKS = 16
TOKENS_PER_RANK = 128
POPULARITY = Popularity("zipf", 0.3)


def example() -> RoutingTrace:
    """The example's tokens."""
    a_rank = MICROBATCHES * TOKENS_PER_RANK
    parts = [gate_tokens(GATE, RANKS, a_rank, POPULARITY, 0, layer) for layer in LAYERS]
    shape = (len(LAYERS), RANKS, MICROBATCHES, TOKENS_PER_RANK)
    layer, rank, microbatch, token = np.indices(shape)
    # By layer, micro-batch, rank: the order of dispatches.
    order = np.arange(layer.size).reshape(shape).swapaxes(1, 2).ravel()
    return RoutingTrace(
        n_experts=GATE.experts,
        layer=np.array(LAYERS, dtype=np.int32)[layer.ravel()[order]],
        microbatch=microbatch.ravel()[order].astype(np.int32),
        token=token.ravel()[order],
        experts=np.concatenate([experts for experts, _ in parts])[order],
        source=rank.ravel()[order].astype(np.int32),
    )


def main() -> None:
    """Write the example into the package and say where."""
    path = resource_dir("routing") / f"{EXAMPLE}.npz"
    write_trace(path, example())
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
