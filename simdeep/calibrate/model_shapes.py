"""The linear layers of a model, as shapes to measure."""

from __future__ import annotations

from simdeep.program.workload import Shape, layer_kernels
from simdeep.spec.model import Model, MoeFfn

_TOKENS = 1024


def linears_of(model: Model) -> dict[str, tuple[int, int]]:
    """Outputs and inputs (n, k) of each linear layer by name; equal shapes once.

    Routed experts are listed like the others: one expert's weight.
    """
    found: dict[str, tuple[int, int]] = {}
    for layer in dict.fromkeys(model.layers):
        local = layer.ffn.experts if isinstance(layer.ffn, MoeFfn) else 1
        shape = Shape(
            tokens=_TOKENS,
            seq_len=_TOKENS,
            rows=float(128 * local),
            unique=float(_TOKENS),
            local_experts=local,
        )
        for kernels in layer_kernels(model, layer, shape, "bf16", "none").values():
            for kernel in kernels:
                if kernel.op in ("gemm", "grouped_gemm") and kernel.variant == "fwd":
                    size = int(kernel.n), int(kernel.k)
                    if size not in found.values():
                        found[kernel.name.removesuffix("_fwd")] = size
    return found
