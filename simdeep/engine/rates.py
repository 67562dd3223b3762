"""How long a task takes under the sharing of this moment: the one place the engines agree on.

Plain float arithmetic in a fixed order, so that a compiled copy of these functions gives the same
bits. Durations are float nanoseconds for the whole task as if the moment lasted.
"""

from __future__ import annotations

import math


def compute_ns(
    sm_ns: float,
    mem_ns: float,
    fixed_ns: float,
    sm_want: int,
    sm_drag: float,
    mem_drag: float,
    sms_free: int,
    running: int,
    draw_milli: int,
) -> float:
    """Duration of a compute task that shares its GPU with `running` - 1 others.

    FLOP-bound time grows as its share of the free SMs falls below what its launch wants;
    memory-bound time with the number that share the HBM; both by the measured drag of the
    transfers running beside it.
    """
    draw = draw_milli / 1000.0
    sm = sm_ns * (1.0 + sm_drag * draw)
    if sm_want > 0:
        share = sms_free / running
        if share < sm_want:
            sm = sm * (sm_want / max(share, 1.0))
    return sm + mem_ns * (1.0 + mem_drag * draw) * running + fixed_ns


def transfer_ns(latency_ns: float, floor_ns: float, slowest_port_ns: float) -> float:
    """Duration of a transfer: latency, then the slower of its SMs' copying and its busiest port.

    `slowest_port_ns` is the largest over its ports of (time alone on that port) x (sharers).
    """
    return latency_ns + max(floor_ns, slowest_port_ns)


def delay_ns(left: float, duration_ns: float) -> int:
    """Whole nanoseconds until a task ends that has the fraction `left` of itself to do."""
    # A millionth of a nanosecond absorbs float error, so that 100.0000000001 is 100 and not 101.
    return max(1, math.ceil(left * duration_ns - 1e-6))
