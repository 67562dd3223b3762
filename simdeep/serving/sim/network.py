"""KV transfers of the SimPy engine: those of a node share its bandwidth equally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simdeep.serving.sim import formulas
from simdeep.serving.sim.fleet import Event
from simdeep.serving.sim.parts import Job

if TYPE_CHECKING:
    from simdeep.serving.sim.reference import Simulation


@dataclass(eq=False)
class _Transfer:
    job: Job
    source: int
    target: int
    left: float
    at: int
    rate: float = 0.0
    version: int = 0


class Network:
    """Transfers under way. One gets its rank's NICs, or its share of a node if that is less."""

    def __init__(self, sim: Simulation):
        self.sim = sim
        self.running: dict[int, _Transfer] = {}

    def start(self, job: Job, size: float) -> None:
        """Begin to move a request's KV to its place."""
        assert job.rank is not None
        assert job.place is not None
        now = self.sim.env.now
        self.running[job.number] = _Transfer(job, job.rank.node, job.place.node, size, now)
        self._share(job.rank.node, job.place.node)

    def cancel(self, job: Job) -> None:
        """Stop a transfer, if there is one."""
        transfer = self.running.pop(job.number, None)
        if transfer is not None:
            transfer.version += 1
            self._share(transfer.source, transfer.target)

    def _share(self, source: int, target: int) -> None:
        """New rates for all that use either node."""
        now = self.sim.env.now
        out: dict[int, int] = {}
        into: dict[int, int] = {}
        for t in self.running.values():
            out[t.source] = out.get(t.source, 0) + 1
            into[t.target] = into.get(t.target, 0) + 1
        for t in self.running.values():
            if t.source != source and t.target != target:
                continue
            assert t.job.home is not None
            assert t.job.unit is not None
            one, other = t.job.home.kind, t.job.unit.kind
            rate = min(one.rank_bytes_per_s, other.rank_bytes_per_s)
            rate = min(rate, one.node_bytes_per_s / out[t.source])
            rate = min(rate, other.node_bytes_per_s / into[t.target])
            if rate == t.rate:
                continue
            t.left = max(0.0, t.left - t.rate * ((now - t.at) * 1e-9))
            t.rate, t.at = rate, now
            t.version += 1
            self._end_at(t, formulas.moving_ns(t.left, rate))

    def _end_at(self, transfer: _Transfer, delay: int) -> None:
        version = transfer.version

        def fire() -> None:
            if transfer.version == version:
                self._moved(transfer)

        self.sim.at(delay, Event.MOVED, transfer.job.number, fire)

    def _moved(self, transfer: _Transfer) -> None:
        job = transfer.job
        self.cancel(job)
        assert job.unit is not None
        if self.sim.fleet.move_latency_ns:
            self.sim.ready(job, self.sim.fleet.move_latency_ns, job.unit.join)
        else:
            job.unit.join(job)
