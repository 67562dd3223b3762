"""Mixture of experts: router, routed experts of one rank, and the shared expert beside them.

Order and fusions follow the H800 trace. Routed kernels run over `Shape.rows` (received rows padded
for each expert), copies between tokens and rows also over `Shape.unique`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simdeep.program.workload.ffn import FfnOps
from simdeep.program.workload.kernel import F, Kernel
from simdeep.program.workload.ops import (
    BF16,
    FP8_TILED,
    FP32,
    TILE,
    Linear,
    cast,
    cast_transpose,
    memory,
    recomputed,
)
from simdeep.program.workload.shape import SWIGLU, Plan
from simdeep.spec.model import MoeFfn

GATE_FWD_LAUNCHES: Final = 36
"""Tiny kernels between the router GEMM and the dispatch: counted in the H800 trace, attn(F)."""
GATE_BWD_LAUNCHES: Final = 31
"""The same before the router's input gradient: attn(B)."""
GATE_FWD_PASSES: Final = 16
"""Times those kernels read or write a tokens x experts FP32 array, from their launch sizes."""
GATE_BWD_PASSES: Final = 30
MAPPING_LAUNCHES: Final = 2
INDEX_BYTES: Final = 8
"""Expert indices are int64."""


@dataclass(frozen=True, slots=True, eq=False)
class RouterOps:
    """Router GEMMs (BF16, FP32 out) and the gate's bookkeeping; part of the attention phases."""

    plan: Plan
    moe: MoeFfn
    hidden: int

    @property
    def _linear(self) -> Linear:
        return Linear("router", self.moe.experts, self.hidden, fp8=False, dtype=self.plan.dtype)

    @property
    def _tokens(self) -> float:
        return self.plan.shape.shard_tokens

    def forward(self) -> tuple[Kernel, ...]:
        """Affinities, group-limited top-k, load statistics."""
        scores = self._tokens * self.moe.experts * FP32
        return (
            self._linear.gemm("fwd", self._tokens, output=FP32),
            memory(
                "gate_fwd",
                "gate",
                scores * GATE_FWD_PASSES,
                dtype="fp32",
                launches=GATE_FWD_LAUNCHES,
            ),
        )

    def backward(self) -> tuple[Kernel, ...]:
        """Both gradients of the router, and its input gradient added to the hidden state's."""
        scores = self._tokens * self.moe.experts * FP32
        return (
            memory(
                "gate_bwd",
                "gate",
                scores * GATE_BWD_PASSES,
                dtype="fp32",
                launches=GATE_BWD_LAUNCHES,
            ),
            self._linear.gemm("dgrad", self._tokens),
            self._linear.gemm("wgrad", self._tokens),
            memory("router_grad_add", "elementwise", self._tokens * self.hidden * 3 * BF16),
        )


@dataclass(frozen=True, slots=True, eq=False)
class MoeOps:
    """Kernels of the experts of one rank, between dispatch and combine."""

    plan: Plan
    moe: MoeFfn
    hidden: int

    @property
    def gateup(self) -> Linear:
        """Hidden to gate and up of each local expert."""
        return self._linear("routed_gateup", 2.0 * self.moe.width, self.hidden)

    @property
    def down(self) -> Linear:
        """Activation to hidden of each local expert."""
        return self._linear("routed_down", self.hidden, self.moe.width)

    @property
    def shared(self) -> FfnOps | None:
        """The shared experts as one FFN, or none."""
        width = self.moe.shared_width
        if not width:
            return None
        return FfnOps(self.plan, "shared", self.hidden, width, gated=True, grad_fp8=self.plan.fp8)

    def forward(self) -> tuple[Kernel, ...]:
        """From received tokens to one summed row for each."""
        rows, fp8 = self._rows, self.plan.fp8
        width = self.moe.width
        arrive = FP8_TILED if fp8 else BF16
        turn_gateup = [self.gateup.transpose()] if fp8 else []
        turn_down = [self.down.transpose()] if fp8 else []
        keep = [cast("routed_act_in_keep", rows * 2 * width)] if fp8 else []
        act = memory("routed_act_fwd", "swiglu", rows * width * (2 * BF16 + arrive))
        shared = self.shared
        return (
            *(shared.forward() if shared else ()),
            self._mapping(),
            self._expand("routed_expand", arrive),
            *turn_gateup,
            *self._scales("routed_gateup", self.hidden),
            *self.gateup.quantised("x", rows * self.hidden),
            self.gateup.gemm("fwd", rows),
            act,
            *turn_down,
            *self._scales("routed_down", width),
            *self.down.quantised("x", rows * width),
            self.down.gemm("fwd", rows),
            self._reduce("routed_reduce"),
            *keep,
        )

    def input_gradient(self) -> tuple[Kernel, ...]:
        """From received gradients to one summed gradient for each token."""
        rows, fp8 = self._rows, self.plan.fp8
        width = self.moe.width
        shared = self.shared
        before: list[Kernel] = []
        if fp8:
            before.append(cast("routed_act_in_back", rows * 2 * width, FP8_TILED, BF16))
        elif self.plan.again(SWIGLU):
            before += recomputed([memory("routed_act_fwd", "swiglu", rows * width * 3 * BF16)])
        grad_cast = [cast("routed_gateup_grad_cast", rows * 2 * width)] if fp8 else []
        return (
            *(shared.input_gradient() if shared else ()),
            *before,
            self._expand("routed_grad_expand", FP8_TILED if fp8 else BF16),
            *self._scales("routed_down_grad", self.hidden),
            *self.down.quantised("dy", rows * self.hidden),
            self.down.gemm("dgrad", rows),
            *self._activation_bwd(),
            *grad_cast,
            *self._scales("routed_gateup_grad", 2 * width),
            *self.gateup.quantised("dy", rows * 2 * width),
            self.gateup.gemm("dgrad", rows),
            self._reduce("routed_grad_reduce"),
            *self.gateup.wgrad_grad(rows),
        )

    def weight_gradient(self) -> tuple[Kernel, ...]:
        """Weight gradients; in FP8 received rows are turned only here (they are already FP8)."""
        shared = self.shared
        rows = self._rows
        return (
            *(shared.down.wgrad(self.plan.shape.tokens) if shared else ()),
            *self.down.wgrad_grad(rows, read=FP8_TILED),
            *self.down.wgrad(rows),
            *self.gateup.wgrad_input(rows, read=FP8_TILED),
            *self.gateup.wgrad(rows),
            *(shared.up.wgrad(self.plan.shape.tokens) if shared else ()),
        )

    @property
    def _rows(self) -> F:
        return self.plan.shape.rows

    def _linear(self, name: str, n: float, k: float) -> Linear:
        return Linear.of(self.plan, name, n, k, self.plan.shape.local_experts)

    def _mapping(self) -> Kernel:
        """Which local expert wants which token, and the row it gets."""
        entries = self.plan.shape.unique * self.moe.topk
        return memory(
            "routed_mapping",
            "mapping",
            entries * 3 * INDEX_BYTES,
            dtype="fp32",
            launches=MAPPING_LAUNCHES,
        )

    def _expand(self, name: str, width: float) -> Kernel:
        """Tokens read once, a row written for each expert that wants it."""
        return memory(name, "permute", (self.plan.shape.unique + self._rows) * self.hidden * width)

    def _reduce(self, name: str) -> Kernel:
        """Rows read, one sum a token written (their weights are already in them)."""
        return memory(name, "unpermute", (self.plan.shape.unique + self._rows) * self.hidden * BF16)

    def _scales(self, name: str, k: float) -> list[Kernel]:
        """Tile scales of the rows copied into the grouped GEMM's layout."""
        if not self.plan.fp8:
            return []
        moved = self._rows * (k / TILE) * 2 * FP32
        return [memory(f"{name}_scales", "copy", moved, dtype="fp32")]

    def _activation_bwd(self) -> list[Kernel]:
        """SwiGLU backward (output again), the routing weight's gradient, the turned output."""
        values = self._rows * self.moe.width
        again = self.plan.fp8 and self.plan.again(SWIGLU)
        act_read = BF16 if again or not self.plan.fp8 else FP8_TILED
        moved = values * BF16 * (6 if again else 5)
        kernels = [
            memory("routed_act_bwd", "swiglu_bwd", moved),
            memory("route_weight_bwd", "swiglu_bwd", values * (BF16 + act_read)),
        ]
        if self.plan.fp8:
            kernels.append(cast_transpose("routed_down_x_turn", values, act_read))
        return kernels
