"""What a serving simulation says: figures, their sampling errors, what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simdeep.serving.sim.outcome import Outcome
from simdeep.serving.windows import Window

if TYPE_CHECKING:
    from simdeep.serving.fleets import Kinds
    from simdeep.spec.serve import ServeScenario


@dataclass(frozen=True)
class Run:
    """A window and what came out; `outcome` is None if nothing arrives in it.

    `extra_unit_s` are seconds, by role, of units paid for besides those in the window, for all the
    time the window stands for: units that start or empty, or stand idle.
    """

    window: Window
    outcome: Outcome | None
    extra_unit_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantiles:
    """Mean and percentiles of a latency in seconds."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Figures:
    """A deployment under a load. Rates are of the time measured, `by role` of units of that role.

    Attributes:
        ttft_s: arrival to first token.
        tpot_s: mean time between a request's tokens after the first (those with two or more).
        e2e_s: arrival to last token.
        requests_per_s: arrivals.
        slo_attainment: share of requests that meet the SLO (None: there is none).
        slo_parts: the same of each promise by itself, by name (TTFT, TPOT).
        goodput_rps: requests a second that meet it.
        input_tokens_per_s: of prompts answered, cached ones included.
        new_tokens_per_s: prompt tokens computed, again ones included.
        output_tokens_per_s: generated.
        nodes: paid for, mean, by role.
        gpus: the same.
        usd_per_hour: for all of them.
        usd_input: share of the money that goes into prompts.
        utilisation: by component, 0 to 1.
        kv_occupancy: share of the KV cache in use, by role.
        rows_per_rank: mean sequences decoding.
        in_state: mean number of requests by state.
        preempted: preemptions a request.
        redone: requests done again after a failure, a request.
        unfinished: share of requests whose last token was not reached when the simulation ended.
        measured: requests behind the latencies.
    """

    ttft_s: Quantiles
    tpot_s: Quantiles
    e2e_s: Quantiles
    requests_per_s: float
    slo_attainment: float | None
    slo_parts: Mapping[str, float]
    goodput_rps: float
    input_tokens_per_s: float
    new_tokens_per_s: float
    output_tokens_per_s: float
    nodes: Mapping[str, float]
    gpus: Mapping[str, float]
    usd_per_hour: float
    usd_input: float
    utilisation: Mapping[str, float]
    kv_occupancy: Mapping[str, float]
    rows_per_rank: float
    in_state: Mapping[str, float]
    preempted: float
    redone: float
    unfinished: float
    measured: int

    @property
    def input_nodes(self) -> float:
        """Nodes that process prompts."""
        return self.nodes.get("prefill", 0.0) + self.nodes.get("mixed", 0.0)

    @property
    def output_nodes(self) -> float:
        """Nodes that generate."""
        return self.nodes.get("decode", 0.0) + self.nodes.get("mixed", 0.0)

    @property
    def input_tokens_per_s_per_node(self) -> float:
        """Input tokens, cached ones included, for each node that processes prompts."""
        return self.input_tokens_per_s / self.input_nodes

    @property
    def output_tokens_per_s_per_node(self) -> float:
        """Output tokens for each node that generates."""
        return self.output_tokens_per_s / self.output_nodes

    @property
    def usd_per_mtok_input(self) -> float:
        """Dollars for a million input tokens."""
        return _per_million(self.usd_per_hour * self.usd_input, self.input_tokens_per_s)

    @property
    def usd_per_mtok_output(self) -> float:
        """Dollars for a million output tokens."""
        return _per_million(self.usd_per_hour * (1 - self.usd_input), self.output_tokens_per_s)

    @property
    def tokens_per_s_per_user(self) -> float:
        """How fast an answer is written: tokens a second at the mean TPOT."""
        return 1.0 / self.tpot_s.mean if self.tpot_s.mean > 0 else 0.0


def _per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    return usd_per_hour / 3600 / tokens_per_s * 1e6 if tokens_per_s > 0 else 0.0


@dataclass(frozen=True)
class Limit:
    """What holds a deployment back: how near each limit is (1: there) and a sentence."""

    name: str
    sentence: str
    pressures: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class ServeResult:
    """A serving scenario, simulated.

    Attributes:
        scenario: what was asked.
        kinds: its units, priced.
        runs: the windows.
        figures: over all of them.
        by_hour: figures of each window of a day that has any, else empty.
        errors: half-widths of 95% intervals by figure, from the spread of slices of time; empty if
            there are too few.
        gap_s: time between a request's tokens, token by token.
        limit: what limits it.
        peak_units: most units of each role that serve in any window.
    """

    scenario: ServeScenario
    kinds: Kinds
    runs: tuple[Run, ...]
    figures: Figures
    by_hour: tuple[Figures | None, ...]
    errors: Mapping[str, float]
    gap_s: Quantiles
    limit: Limit
    peak_units: Mapping[str, int]

    @property
    def meets_slo(self) -> bool:
        """Whether as many requests meet the SLO as shall (True if there is none)."""
        share = self.figures.slo_attainment
        return share is None or share >= self.scenario.slo.share
