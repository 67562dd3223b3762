"""Dense feed-forward network: a layer's own, or the shared expert beside the routed ones.

A gated FFN (SwiGLU) has gate and up in one projection of twice the width; an ungated one (GPT-3)
has a plain activation. In FP8 the input of the activation is kept in FP8 in any case and its
output recomputed under the `swiglu` policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.program.workload.kernel import Kernel
from simdeep.program.workload.ops import (
    BF16,
    EAGER_SWIGLU,
    FP8_TILED,
    Linear,
    cast,
    cast_transpose,
    memory,
    pointwise,
    recomputed,
)
from simdeep.program.workload.shape import NORM, PRODUCTS, SWIGLU, Plan


@dataclass(frozen=True, slots=True, eq=False)
class FfnOps:
    """Kernels of one FFN of `width` on all tokens of a rank.

    `prefix` names them. `grad_fp8`: the gradient of the output arrives in FP8, as it does beside
    routed experts, whose backward all-to-all needs that cast anyway.
    """

    plan: Plan
    prefix: str
    hidden: int
    width: float
    gated: bool
    grad_fp8: bool

    @property
    def fan(self) -> float:
        """Width of the activation's input on this rank."""
        return self.inner * (2 if self.gated else 1)

    @property
    def inner(self) -> float:
        """Width of the activation's output on this rank."""
        return self.width / self.plan.shape.tp

    @property
    def up(self) -> Linear:
        """Hidden to the activation's input."""
        name = "gateup" if self.gated else "up"
        return Linear.of(self.plan, f"{self.prefix}_{name}", self.fan, self.hidden)

    @property
    def second(self) -> Linear:
        """The ungated half of the up projection, which selective checkpointing repeats."""
        return Linear.of(self.plan, f"{self.prefix}_second", self.inner, self.hidden)

    @property
    def down(self) -> Linear:
        """Activation's output to hidden."""
        return Linear.of(self.plan, f"{self.prefix}_down", self.hidden, self.inner)

    def forward(self) -> tuple[Kernel, ...]:
        """From the normed (and in FP8 already cast) input to the output."""
        tokens = self.plan.shape.tokens
        keep = cast(f"{self.prefix}_act_in_keep", tokens * self.fan)
        return (
            *self.up.forward(tokens, cast_input=False),
            self._activation(FP8_TILED if self.plan.fp8 else BF16),
            *self.down.forward(tokens, cast_input=False),
            *((keep,) if self.plan.fp8 else ()),
        )

    def input_gradient(self) -> tuple[Kernel, ...]:
        """From the gradient of the output to that of the input, and the weight gradients' operands.

        The input itself, where recomputed, comes from the norm that the caller repeats.
        """
        plan, tokens = self.plan, self.plan.shape.tokens
        if not plan.fp8:
            again = recomputed([self._activation(BF16)]) if plan.again(SWIGLU) else []
            if plan.again(PRODUCTS) and self.gated:
                again = [*recomputed(self.second.forward(tokens)), *again]
            down, up = self.down.dgrad(tokens), self.up.dgrad(tokens)
            return (*again, *down, self._activation_bwd(), *up)
        fresh = plan.again(NORM)
        x_back = cast(f"{self.prefix}_x_back", tokens * self.hidden, FP8_TILED, BF16)
        return (
            cast(f"{self.prefix}_act_in_back", tokens * self.fan, FP8_TILED, BF16),
            *self.down.dgrad(tokens, cast_grad=not self.grad_fp8),
            *self.down.wgrad_grad(tokens, read=FP8_TILED if self.grad_fp8 else BF16),
            self._activation_turn(),
            self._activation_bwd(),
            *((x_back,) if fresh else ()),
            *self.up.dgrad(tokens),
            *self.up.wgrad_grad(tokens),
            *self.up.wgrad_input(tokens, read=BF16 if fresh else FP8_TILED),
        )

    def weight_gradient(self) -> tuple[Kernel, ...]:
        """Weight gradients of both projections."""
        tokens = self.plan.shape.tokens
        return (*self.down.wgrad(tokens), *self.up.wgrad(tokens))

    def _activation(self, write: float) -> Kernel:
        """Activation forward; in FP8 its output is cast on the way out."""
        if self.plan.style.eager and self.gated:
            values = self.plan.shape.tokens * self.inner
            return pointwise(f"{self.prefix}_act_fwd", values, EAGER_SWIGLU[0])
        moved = self.plan.shape.tokens * (self.fan * BF16 + self.inner * write)
        variant = "swiglu" if self.gated else "elementwise"
        return memory(f"{self.prefix}_act_fwd", variant, moved)

    def _activation_bwd(self) -> Kernel:
        if self.plan.style.eager and self.gated:
            values = self.plan.shape.tokens * self.inner
            return pointwise(f"{self.prefix}_act_bwd", values, EAGER_SWIGLU[1])
        moved = self.plan.shape.tokens * (2 * self.fan + self.inner) * BF16
        variant = "swiglu_bwd" if self.gated else "elementwise"
        return memory(f"{self.prefix}_act_bwd", variant, moved)

    def _activation_turn(self) -> Kernel:
        """Activation's output for the weight gradient: recomputed from its input, or as kept."""
        values = self.plan.shape.tokens * self.inner
        name = f"{self.prefix}_down_x_turn"
        if not self.plan.again(SWIGLU):
            return cast_transpose(name, values, FP8_TILED)
        return cast_transpose(name, values, BF16 * self.fan / self.inner)
