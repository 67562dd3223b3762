"""`simulate_alltoall(setting)`: routed tokens through the kernels and over the fabric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simdeep.cost.moe import BOTTLENECKS as KERNEL_BOTTLENECKS
from simdeep.cost.moe import (
    AllToAll,
    Direction,
    Kernels,
    dispatch_combine,
    load_kernels,
)
from simdeep.cost.moe.result import PORTS
from simdeep.network.fabric import FabricRun, kernel_links, run_low_latency, run_normal
from simdeep.network.routed import MAX_TOKENS, Routed, draw_tokens, route_tokens
from simdeep.network.setting import DIRECTIONS, Setting
from simdeep.program.routing.kernels import F64

BOTTLENECKS = (*KERNEL_BOTTLENECKS, "fabric")
"""What sets the time: those of the kernels, or a link between switches."""

_SLOWER = 1.02
"""From here on it is the fabric, and not the kernel alone, that sets the time."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """One direction: the kernel by itself, and on the fabric a run for each routing draw."""

    setting: Setting
    routed: Routed
    direction: Direction
    kernel: AllToAll
    runs: tuple[FabricRun, ...]

    @property
    def finish_s(self) -> F64:
        """When each GPU is done, [draws, ranks]."""
        return np.stack([run.finish_s for run in self.runs])

    @property
    def time_s(self) -> float:
        """When the last GPU is done; mean over draws."""
        return float(self.finish_s.max(axis=1).mean())

    @property
    def kernel_time_s(self) -> float:
        """The same if nothing between the ports were ever shared."""
        return float(self.kernel.time_s.mean())

    @property
    def fabric_slowdown(self) -> float:
        """Time on the fabric over that of the kernel by itself."""
        return self.time_s / self.kernel_time_s

    @property
    def bottleneck(self) -> str:
        """What sets the time of the GPU that is last in the first draw, of `BOTTLENECKS`."""
        hot = self.runs[0].hot
        if self.fabric_slowdown <= _SLOWER or not hot:
            last = int(self.kernel.finish_s[0].argmax())
            return KERNEL_BOTTLENECKS[int(self.kernel.bottleneck[0, last])]
        kind = hot[0].kind
        if kind.startswith("nvlink"):
            return "nvlink"
        if kind == "sm":
            return "sm"
        return "ib" if kind.startswith(("nic", "pcie")) else "fabric"

    @property
    def nvlink_gbps_physical(self) -> float:
        """GB/s through a GPU's NVLink, the fuller direction; mean over GPUs."""
        return self._gbps(self.kernel.port_bytes[2:].max(axis=0))

    def hot_ports(self, count: int = 3, draw: int = 0) -> list[tuple[str, float]]:
        """The busiest ports, such as `nic-in of gpu 5`, and the seconds each needs by itself."""
        busy = self.kernel.port_s[:, draw]
        order = np.argsort(-busy, axis=None, kind="stable")[:count]
        gpus, ranks = self.setting.gpus, busy.shape[1]
        return [
            (f"{PORTS[i // ranks]} of gpu {gpus[i % ranks]}", float(busy.flat[i]))
            for i in order.tolist()
        ]

    def row(self) -> dict[str, Any]:
        """The row of the report: bytes of a GPU and one direction, GB/s of 1e9 B/s."""
        setting, kernel = self.setting, self.kernel
        crosses = setting.nodes > 1
        return {
            "direction": self.direction,
            "ep": setting.ep,
            "nodes": setting.nodes,
            "tokens_per_gpu": setting.tokens,
            "comm_sms": setting.comm_sms if setting.mode == "normal" else 0,
            "mode": setting.mode,
            "time_us": self.time_s * 1e6,
            "ib_bytes_per_gpu": float(kernel.port_bytes[0].mean()),
            "nvlink_bytes_per_gpu": float(kernel.port_bytes[2].mean()),
            "ib_gbps_logical": self._gbps(kernel.logical_ib_bytes) if crosses else 0.0,
            "ib_gbps_physical": self._gbps(kernel.port_bytes[:2].max(axis=0)),
            "nvlink_gbps": self._gbps(kernel.logical_nvl_bytes),
            "bottleneck": self.bottleneck,
            "nodes_per_token": self.routed.nodes_per_token,
            "max_over_mean_load": self.routed.max_over_mean_load,
        }

    def _gbps(self, nbytes: F64) -> float:
        return float((nbytes / self.finish_s).mean()) / 1e9


def simulate_alltoall(
    setting: Setting, kernels: Kernels | None = None, max_tokens: int = MAX_TOKENS
) -> tuple[Outcome, ...]:
    """Dispatch, then combine, of the same tokens."""
    routed = prepare(setting, max_tokens)
    return tuple(run_direction(setting, routed, direction, kernels) for direction in DIRECTIONS)


def prepare(setting: Setting, max_tokens: int = MAX_TOKENS) -> Routed:
    """Draw or replay the tokens, place the experts, count what moves."""
    return route_tokens(setting, draw_tokens(setting, max_tokens))


def run_direction(
    setting: Setting, routed: Routed, direction: Direction, kernels: Kernels | None = None
) -> Outcome:
    """One direction of routed tokens, draw by draw."""
    kernels = kernels or load_kernels()
    kernel = price_kernel(setting, routed, direction, kernels=kernels)
    if routed.pairs is not None:
        low = [run_low_latency(setting, p, direction, kernels) for p in routed.pairs.pairs]
        return Outcome(setting, routed, direction, kernel, tuple(low))
    copies, dispatches = routed.copies, routed.dispatches
    runs = (
        run_normal(
            setting,
            copies,
            dispatches.landed[draw],
            dispatches.forwarded[draw],
            direction,
            kernels,
            draw,
        )
        for draw in range(dispatches.draws)
    )
    return Outcome(setting, routed, direction, kernel, tuple(runs))


def price_kernel(
    setting: Setting,
    routed: Routed,
    direction: Direction,
    sms: int | None = None,
    kernels: Kernels | None = None,
) -> AllToAll:
    """The kernel by itself, with other SMs than the setting's if given."""
    return dispatch_combine(
        routed.copies if routed.pairs is None else routed.pairs,
        kernel_links(setting),
        direction,
        sms=sms or max(setting.comm_sms, 2),
        mode=setting.mode,
        hidden=setting.hidden,
        dtype=setting.dtype,
        kernels=kernels,
    )
