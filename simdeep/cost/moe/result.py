"""What one dispatch or combine is: when each GPU is done, through what, and what held it up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]

BOTTLENECKS = ("ib", "nvlink", "sm", "latency")
"""What sets a GPU's time: NIC ports, NVLink ports, its copying SMs, or fixed time."""

PORTS = ("nic-out", "nic-in", "nvlink-out", "nvlink-in")


@dataclass(frozen=True, slots=True, eq=False)
class AllToAll:
    """Arrays are [draws, ranks]; bytes are those that cross links unless called logical.

    Logical bytes are DeepEP's: over IB every node of a token counts, its own included; over NVLink
    every GPU, the landing one included. Low-latency kernels count every (token, expert) pair.
    """

    finish_s: F64
    """From the common start until this GPU has sent, forwarded and received everything."""
    alone_s: F64
    """The same if no GPU were busier than this one: the rest of `finish_s` is waiting on peers."""
    notify_s: float
    """The layout exchange before it (none in low-latency mode or with a cached layout)."""
    port_bytes: F64
    """[4, draws, ranks] through the ports named in `PORTS`."""
    port_s: F64
    """[4, draws, ranks] what each port needs at its achieved bandwidth."""
    logical_ib_bytes: F64
    logical_nvl_bytes: F64
    bottleneck: I8
    """Index into `BOTTLENECKS`."""
    sms: int
    """SMs held while bytes move."""

    @property
    def time_s(self) -> F64:
        """When the last GPU is done, [draws]."""
        return np.asarray(self.finish_s.max(axis=-1))

    @property
    def logical_ib_gbps(self) -> float:
        """DeepEP's RDMA figure: a GPU's logical bytes over its time, mean over GPUs."""
        return float((self.logical_ib_bytes / self.finish_s).mean()) / 1e9

    @property
    def logical_nvl_gbps(self) -> float:
        """DeepEP's NVLink figure."""
        return float((self.logical_nvl_bytes / self.finish_s).mean()) / 1e9

    @property
    def ib_gbps(self) -> float:
        """Physical IB bandwidth of a GPU, the fuller direction, mean over GPUs."""
        return float((self.port_bytes[:2].max(axis=0) / self.finish_s).mean()) / 1e9

    @property
    def nvl_gbps(self) -> float:
        """Physical NVLink bandwidth of a GPU, the fuller direction, mean over GPUs."""
        return float((self.port_bytes[2:].max(axis=0) / self.finish_s).mean()) / 1e9

    @property
    def limit(self) -> str:
        """What limits most GPUs."""
        counts = np.bincount(self.bottleneck.ravel(), minlength=len(BOTTLENECKS))
        return BOTTLENECKS[int(counts.argmax())]

    def hot_ports(self, count: int = 3, draw: int = 0) -> list[tuple[str, float]]:
        """The busiest ports of a draw, such as `nic-in of gpu 5`, and each one's seconds."""
        seconds = self.port_s[:, draw]
        order = np.argsort(seconds, axis=None, kind="stable")[::-1][:count]
        ranks = seconds.shape[1]
        return [
            (f"{PORTS[i // ranks]} of gpu {i % ranks}", float(seconds.flat[i]))
            for i in order.tolist()
        ]
