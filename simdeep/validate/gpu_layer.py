"""One DeepSeek-V3 layer as a rank of EP64 holds it, in torch, with F, I and W apart.

Every step has the names of the kernel records it does (`workload.layer_kernels` in BF16 without
recomputation), so that its time can be laid beside theirs. Tokens that the all-to-all would bring
are made up: what is received is random, and how many rows each local expert gets is given.
Imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from simdeep.calibrate import tensor_ops as ops
from simdeep.calibrate.tensor_ops import fused

Step = tuple[str, Callable[[], None]]
"""Kernel names joined by `+`, and the call that does them."""

COMPONENTS = (("attn", "F"), ("mlp", "F"), ("mlp", "I"), ("attn", "I"), ("mlp", "W"), ("attn", "W"))
"""In the order of a layer's forward and backward pass."""


@dataclass(frozen=True, slots=True)
class LayerSize:
    """Sizes of a layer and what one rank gets: `rows` of each local expert, `unique` tokens."""

    tokens: int
    rows: tuple[int, ...]
    unique: int
    hidden: int = 7168
    heads: int = 128
    nope: int = 128
    rope: int = 64
    v_dim: int = 128
    q_rank: int = 1536
    kv_rank: int = 512
    width: int = 2048
    shared_width: int = 2048
    experts: int = 256
    groups: int = 8
    kept_groups: int = 4
    topk: int = 8


class GpuLayer:
    """The layer on one device; `state` holds every tensor by name, gradients as `d_...`."""

    def __init__(self, size: LayerSize, device: str, dtype: torch.dtype, seed: int = 0):
        self.size, self.device, self.dtype = size, device, dtype
        self.state: dict[str, Any] = {}
        self.weights: dict[str, Tensor] = {}
        self.grads: dict[str, Tensor] = {}
        self._generator = torch.Generator(device).manual_seed(seed)
        self._make_weights()
        self._make_inputs()
        self._core: tuple[Tensor, list[Tensor]] | None = None

    def steps(self, component: str, action: str) -> list[Step]:
        """The kernels of a component's action in launch order."""
        made: list[Step] = getattr(self, f"_{component}_{action.lower()}")()
        return made

    def run(self, component: str, action: str) -> None:
        """All steps of a component's action."""
        for _, call in self.steps(component, action):
            call()

    def prepare(self) -> None:
        """Run everything once, so that every action has its inputs."""
        for component, action in COMPONENTS:
            self.run(component, action)

    def _new(self, *shape: int, scale: float = 1.0) -> Tensor:
        made = torch.randn(
            *shape, dtype=torch.float32, device=self.device, generator=self._generator
        )
        return (made * scale).to(self.dtype)

    def _make_weights(self) -> None:
        s = self.size
        linears = {
            "q_down": (s.q_rank, s.hidden),
            "kv_down": (s.kv_rank + s.rope, s.hidden),
            "q_up": (s.heads * (s.nope + s.rope), s.q_rank),
            "kv_up": (s.heads * (s.nope + s.v_dim), s.kv_rank),
            "o_proj": (s.hidden, s.heads * s.v_dim),
            "router": (s.experts, s.hidden),
            "shared_gateup": (2 * s.shared_width, s.hidden),
            "shared_down": (s.hidden, s.shared_width),
        }
        for name, (n, k) in linears.items():
            self.weights[name] = self._new(n, k, scale=k**-0.5)
            self.grads[name] = torch.zeros(n, k, dtype=torch.float32, device=self.device)
        local = len(s.rows)
        for name, n, k in (
            ("routed_gateup", 2 * s.width, s.hidden),
            ("routed_down", s.hidden, s.width),
        ):
            self.weights[name] = self._new(local, n, k, scale=k**-0.5)
            self.grads[name] = torch.zeros(local, n, k, dtype=torch.float32, device=self.device)
        for name, width in (
            ("input_norm", s.hidden),
            ("q_norm", s.q_rank),
            ("kv_norm", s.kv_rank),
            ("post_norm", s.hidden),
        ):
            self.weights[name] = 1.0 + self._new(width, scale=0.1)
        self.weights["bias"] = self._new(s.experts, scale=0.01).float()

    def _make_inputs(self) -> None:
        s, state = self.size, self.state
        for name in ("x", "residual", "d_stream", "d_normed", "d_shared_out"):
            state[name] = self._new(s.tokens, s.hidden)
        state["received"] = self._new(s.unique, s.hidden)
        state["d_routed_out"] = self._new(s.unique, s.hidden)
        state["d_gate_weights"] = self._new(s.tokens, s.topk).float()
        angle = torch.rand(s.tokens, s.rope // 2, device=self.device, generator=self._generator)
        state["cos"], state["sin"] = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        wanted = torch.zeros(s.unique, len(s.rows), dtype=torch.bool, device=self.device)
        for expert, count in enumerate(s.rows):
            picked = torch.randperm(s.unique, device=self.device)[:count]
            wanted[picked, expert] = True
        state["wanted"] = wanted
        ends = torch.tensor(s.rows, device=self.device).cumsum(0)
        state["ends"] = ends.to(torch.int32)

    # Building blocks: a step reads and writes `state` by name.

    def _op(self, function: Callable[..., Any], into: str | tuple[str, ...], *of: Any) -> Any:
        """A fused memory kernel on the named tensors, as a call."""
        run = fused(function, self.device)
        state = self.state

        def call() -> None:
            values = [state[name] if isinstance(name, str) else name for name in of]
            made = run(*values)
            if isinstance(into, str):
                state[into] = made
            else:
                state.update(zip(into, made, strict=True))

        return call

    def _weighted(
        self, function: Callable[..., Any], into: Any, of: Sequence[str], weight: str, *more: str
    ) -> Any:
        """`_op` whose operands have a weight between them."""
        return self._op(function, into, *of, self.weights[weight], *more)

    def _mm(self, name: str, x: str, into: str) -> Step:
        def call() -> None:
            self.state[into] = self.state[x] @ self.weights[name].t()

        return f"{name}_fwd", call

    def _dgrad(self, name: str, dy: str, into: str) -> Step:
        def call() -> None:
            self.state[into] = self.state[dy] @ self.weights[name]

        return f"{name}_dgrad", call

    def _wgrad(self, name: str, dy: str, x: str) -> Step:
        def call() -> None:
            _accumulate(self.grads[name], self.state[dy], self.state[x])

        return f"{name}_wgrad", call

    def _attn_f(self) -> list[Step]:
        s, state = self.size, self.state

        def cut() -> None:
            state["q"] = state["q_flat"].view(-1, s.heads, s.nope + s.rope)
            kv = state["kv_flat"].view(-1, s.heads, s.nope + s.v_dim)
            state["k_nope"], state["v"] = kv[..., : s.nope], kv[..., s.nope :]

        def rope_q() -> None:
            cut()
            fused(ops.rotate_in_place, self.device)(
                state["q"][..., s.nope :], state["cos"], state["sin"]
            )

        def latent() -> None:
            state["kv_latent"] = fused(ops.contiguous, self.device)(
                state["kv_both"][:, : s.kv_rank]
            )

        def k_rope() -> None:
            cut = state["kv_both"][:, None, s.kv_rank :]
            state["k_rope_in"] = fused(ops.contiguous, self.device)(cut)

        def core() -> None:
            state["attn"] = _attend(state["q"], state["k"], state["v"], self.device).flatten(1)

        def router() -> None:
            state["logits"] = _wide_mm(state["normed"], self.weights["router"])

        gate_size = (s.groups, s.kept_groups, s.topk)

        def gate() -> None:
            found = ops.gate(state["logits"], self.weights["bias"], *gate_size)
            state["gate_weights"], state["chosen"], state["load"] = found

        def join() -> None:
            cut()
            state["k"] = fused(ops.join_heads, self.device)(state["k_nope"], state["k_rope"])

        return [
            (
                "input_norm_fwd",
                self._weighted(ops.add_rms_norm, ("stream0", "y"), ("x", "residual"), "input_norm"),
            ),
            self._mm("q_down", "y", "q_latent"),
            self._mm("kv_down", "y", "kv_both"),
            ("q_norm_fwd", self._weighted(ops.rms_norm, "q_normed", ("q_latent",), "q_norm")),
            ("kv_latent_copy", latent),
            ("kv_norm_fwd", self._weighted(ops.rms_norm, "kv_normed", ("kv_latent",), "kv_norm")),
            ("k_rope_copy", k_rope),
            self._mm("q_up", "q_normed", "q_flat"),
            self._mm("kv_up", "kv_normed", "kv_flat"),
            ("rope_k", self._op(ops.rotate, "k_rope", "k_rope_in", "cos", "sin")),
            ("k_nope_copy+k_rope_widen", join),
            ("rope_q", rope_q),
            ("attn_core_fwd", core),
            self._mm("o_proj", "attn", "attn_out"),
            ("attn_out_scale", self._op(ops.scaled, "attn_scaled", "attn_out", 0.5)),
            (
                "post_norm_fwd",
                self._weighted(
                    ops.add_rms_norm, ("stream1", "normed"), ("attn_scaled", "stream0"), "post_norm"
                ),
            ),
            ("router_fwd", router),
            ("gate_fwd", gate),
        ]

    def _mlp_f(self) -> list[Step]:
        state, rows = self.state, sum(self.size.rows)

        def mapping() -> None:
            state["token"], state["slots"] = ops.row_map(state["wanted"], rows)

        return [
            self._mm("shared_gateup", "normed", "shared_both"),
            ("shared_act_fwd", self._op(ops.swiglu, "shared_act", "shared_both")),
            self._mm("shared_down", "shared_act", "shared_out"),
            ("routed_mapping", mapping),
            ("routed_expand", self._op(ops.expand_rows, "rows_in", "received", "token")),
            self._grouped("routed_gateup", "fwd", "rows_in", "routed_both"),
            ("routed_act_fwd", self._op(ops.swiglu, "routed_act", "routed_both")),
            self._grouped("routed_down", "fwd", "routed_act", "rows_out"),
            ("routed_reduce", self._op(ops.reduce_rows, "routed_out", "rows_out", "slots")),
        ]

    def _mlp_i(self) -> list[Step]:
        return [
            self._dgrad("shared_down", "d_shared_out", "d_shared_act"),
            (
                "shared_act_bwd",
                self._op(ops.swiglu_back, "d_shared_both", "d_shared_act", "shared_both"),
            ),
            self._dgrad("shared_gateup", "d_shared_both", "d_shared_in"),
            (
                "routed_grad_expand",
                self._op(ops.expand_rows, "d_rows_out", "d_routed_out", "token"),
            ),
            self._grouped("routed_down", "dgrad", "d_rows_out", "d_routed_act"),
            (
                "routed_act_bwd",
                self._op(ops.swiglu_back, "d_routed_both", "d_routed_act", "routed_both"),
            ),
            (
                "route_weight_bwd",
                self._op(ops.row_dot, "d_route_weight", "d_routed_act", "routed_act"),
            ),
            self._grouped("routed_gateup", "dgrad", "d_routed_both", "d_rows_in"),
            ("routed_grad_reduce", self._op(ops.reduce_rows, "d_received", "d_rows_in", "slots")),
        ]

    def _attn_i(self) -> list[Step]:
        s, state = self.size, self.state

        def gate() -> None:
            given = state["d_gate_weights"], state["logits"], state["chosen"]
            state["d_logits"] = ops.gate_back(*given).to(self.dtype)

        def core() -> None:
            state["d_q"], state["d_k"], state["d_v"] = self._core_back(
                state["d_attn"].view(-1, s.heads, s.v_dim)
            )

        def rope_q() -> None:
            fused(ops.rotate_in_place, self.device)(
                state["d_q"][..., s.nope :], state["cos"], -state["sin"]
            )
            state["d_q_flat"] = state["d_q"].flatten(1)

        def rope_k_sum() -> None:
            state["d_k_rope_sum"] = fused(ops.sum_heads, self.device)(state["d_k"][..., s.nope :])

        def rope_k() -> None:
            back = fused(ops.rotate, self.device)
            state["d_k_rope"] = back(state["d_k_rope_sum"], state["cos"], -state["sin"]).flatten(1)

        def kv_join() -> None:
            both = fused(ops.side_by_side, self.device)(state["d_k"][..., : s.nope], state["d_v"])
            state["d_kv_flat"] = both.flatten(1)

        norm_back = ops.rms_norm_back
        return [
            ("gate_bwd", gate),
            self._dgrad("router", "d_logits", "d_normed_gate"),
            self._wgrad("router", "d_logits", "normed"),
            ("router_grad_add", self._op(ops.added, "d_normed_all", "d_normed", "d_normed_gate")),
            (
                "post_norm_bwd",
                self._weighted(
                    ops.add_rms_norm_back,
                    ("d_stream1", "g_post_norm"),
                    ("d_normed_all", "stream1"),
                    "post_norm",
                    "d_stream",
                ),
            ),
            ("attn_out_scale_bwd", self._op(ops.scaled, "d_attn_out", "d_stream1", 0.5)),
            self._dgrad("o_proj", "d_attn_out", "d_attn"),
            ("attn_bwd_pre+attn_core_bwd+attn_bwd_post", core),
            ("rope_q_bwd", rope_q),
            self._dgrad("q_up", "d_q_flat", "d_q_normed"),
            ("k_rope_grad_sum", rope_k_sum),
            ("rope_k_bwd", rope_k),
            ("k_grad_copy+v_grad_copy", kv_join),
            self._dgrad("kv_up", "d_kv_flat", "d_kv_normed"),
            (
                "kv_norm_bwd",
                self._weighted(
                    norm_back, ("d_kv_latent", "g_kv_norm"), ("d_kv_normed", "kv_latent"), "kv_norm"
                ),
            ),
            (
                "q_norm_bwd",
                self._weighted(
                    norm_back, ("d_q_latent", "g_q_norm"), ("d_q_normed", "q_latent"), "q_norm"
                ),
            ),
            ("kv_grad_join", self._op(ops.side_by_side, "d_kv_both", "d_kv_latent", "d_k_rope")),
            self._dgrad("kv_down", "d_kv_both", "d_y_kv"),
            self._dgrad("q_down", "d_q_latent", "d_y_q"),
            ("input_grad_add", self._op(ops.added, "d_y", "d_y_kv", "d_y_q")),
            (
                "input_norm_bwd",
                self._weighted(
                    ops.add_rms_norm_back,
                    ("d_x", "g_input_norm"),
                    ("d_y", "stream0"),
                    "input_norm",
                    "d_stream1",
                ),
            ),
        ]

    def _mlp_w(self) -> list[Step]:
        return [
            self._wgrad("shared_down", "d_shared_out", "shared_act"),
            self._grouped_wgrad("routed_down", "d_rows_out", "routed_act"),
            self._grouped_wgrad("routed_gateup", "d_routed_both", "rows_in"),
            self._wgrad("shared_gateup", "d_shared_both", "normed"),
        ]

    def _attn_w(self) -> list[Step]:
        return [
            self._wgrad("o_proj", "d_attn_out", "attn"),
            self._wgrad("kv_up", "d_kv_flat", "kv_normed"),
            self._wgrad("q_up", "d_q_flat", "q_normed"),
            self._wgrad("kv_down", "d_kv_both", "y"),
            self._wgrad("q_down", "d_q_latent", "y"),
        ]

    def _grouped(self, name: str, variant: str, x: str, into: str) -> Step:
        def call() -> None:
            weight = self.weights[name]
            turned = weight.transpose(1, 2) if variant == "fwd" else weight
            self.state[into] = self._grouped_mm(self.state[x], turned)

        return f"{name}_{variant}", call

    def _grouped_mm(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.device == "cuda":
            return torch._grouped_mm(x, weight, offs=self.state["ends"])
        parts = zip(x.split(list(self.size.rows)), weight, strict=True)
        return torch.cat([part @ w for part, w in parts])

    def _grouped_wgrad(self, name: str, dy: str, x: str) -> Step:
        def call() -> None:
            split = list(self.size.rows)
            parts = zip(self.state[dy].split(split), self.state[x].split(split), strict=True)
            for grad, (left, right) in zip(self.grads[name], parts, strict=True):
                _accumulate(grad, left, right)

        return f"{name}_wgrad", call

    def _core_back(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients of queries, keys and values, through autograd of a forward run once."""
        if self._core is None:
            leaves = [self.state[n].detach().clone().requires_grad_() for n in ("q", "k", "v")]
            q, k, v = leaves
            self._core = _attend(q, k, v, self.device), leaves
        out, leaves = self._core
        found: tuple[Tensor, ...] = torch.autograd.grad(out, leaves, grad, retain_graph=True)
        return found


def _accumulate(into: Tensor, dy: Tensor, x: Tensor) -> None:
    """Add dY^T X to an FP32 gradient in one GEMM."""
    if into.is_cuda:
        torch.addmm(into, dy.t(), x, out_dtype=torch.float32, out=into)
    else:
        into.add_(dy.t().float() @ x.float())


def _wide_mm(x: Tensor, weight: Tensor) -> Tensor:
    """X W^T with an FP32 result."""
    if x.is_cuda:
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    return x.float() @ weight.t().float()


def _attend(q: Tensor, k: Tensor, v: Tensor, device: str) -> Tensor:
    """Causal attention of one sequence, tokens first."""
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    with _backend(device):
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
    return out[0].transpose(0, 1)


@contextmanager
def _backend(device: str) -> Iterator[None]:
    if device != "cuda":
        yield
        return
    from torch.nn.attention import sdpa_kernel

    from simdeep.calibrate.attention import backends

    with sdpa_kernel(backends()["cudnn"]):
        yield
