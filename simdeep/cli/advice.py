"""What to change when a training step does not fit: every way is tried by simulating it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from simdeep.cli.console import Progress, render
from simdeep.cli.options import Source
from simdeep.errors import InputError

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.spec.scenario import Scenario

_MOST_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Way:
    """One change of a scenario: what it is, and the values to set."""

    what: str
    sets: Mapping[str, str]

    @property
    def flags(self) -> str:
        """The change as options of the command line."""
        return " ".join(f"--set {quote(f'{key}={value}')}" for key, value in self.sets.items())


@dataclass(frozen=True, slots=True)
class Tried:
    """What a change makes of the step."""

    way: Way
    fits: bool
    peak_gib: float
    step_time_s: float


def advice(source: Source, result: Result, bar: Progress) -> str:
    """Say what dominates the fullest rank, and what each possible change makes of it."""
    tried = [t for way in ways(result.scenario) if (t := _try(source, way, bar)) is not None]
    if not any(t.fits for t in tried):
        tried += _together(source, result, tried, bar)
    tried.sort(key=lambda t: (not t.fits, t.step_time_s if t.fits else t.peak_gib))
    lines = [_diagnosis(result)]
    if any(t.fits for t in tried):
        lines.append("What to change, each simulated:")
    else:
        lines.append("None of these changes is enough; take more GPUs, or GPUs with more memory.")
    return "\n".join([*lines, _table(tried).rstrip("\n")])


def _diagnosis(result: Result) -> str:
    from simdeep.analysis.memory import GIB

    memory = result.memory
    rank = int(memory.peak.argmax())
    parts = sorted(memory.breakdown.items(), key=lambda item: -int(item[1][rank]))
    largest = ", ".join(f"{name} {part[rank] / GIB:.1f} GiB" for name, part in parts[:3])
    missing = memory.peak_gib - memory.capacity_gib
    return (
        f"It does not fit: rank {rank} needs {memory.peak_gib:.1f} of {memory.capacity_gib:.1f} "
        f"GiB, {missing:.1f} GiB too much.\nMost of it: {largest}."
    )


def _table(tried: list[Tried]) -> str:
    from simdeep.report.summary import seconds
    from simdeep.report.tables import grid

    table = grid("fits", "peak GiB>", "step>", "change, and how to make it")
    for t in tried:
        fits = "yes" if t.fits else "no"
        what = f"{t.way.what}\n  {t.way.flags}"
        table.add_row(fits, f"{t.peak_gib:.1f}", seconds(t.step_time_s), what)
    return render([table])


def _try(source: Source, way: Way, bar: Progress) -> Tried | None:
    """Simulate a change; None if the scenario cannot have it."""
    from simdeep.api import simulate

    bar.stage(f"trying: {way.what}")
    more = {key.replace(".", "__"): value for key, value in way.sets.items()}
    try:
        result = simulate(source.load(**{"simulate__engine": "compiled", **more}))
    except InputError:
        return None
    return Tried(way, result.memory.fits, result.memory.peak_gib, result.step_time_s)


def _together(source: Source, result: Result, tried: list[Tried], bar: Progress) -> Iterator[Tried]:
    """Changes added up until the step fits.

    First with those in front that cost least time for the memory they save, then with those that
    save most.
    """
    step, peak = result.step_time_s, result.memory.peak_gib
    helpful = [t for t in tried if t.peak_gib < peak]
    by_price = sorted(helpful, key=lambda t: (t.step_time_s - step) / (peak - t.peak_gib))
    by_peak = sorted(helpful, key=lambda t: t.peak_gib)
    seen: list[Mapping[str, str]] = []
    for order in (by_price, by_peak):
        for way in _sums(order):
            if way.sets in seen:
                continue
            seen.append(way.sets)
            found = _try(source, way, bar)
            if found is not None:
                yield found
                if found.fits:
                    return


def _sums(order: list[Tried]) -> Iterator[Way]:
    """The first two changes together, the first three, and so on; not two of the same key."""
    sets: dict[str, str] = {}
    names: list[str] = []
    for one in order:
        if sets.keys() & one.way.sets.keys():
            continue
        sets |= one.way.sets
        names.append(one.way.what)
        if len(names) > 1:
            yield Way(" and ".join(names), dict(sets))
        if len(names) == _MOST_TOGETHER:
            return


def ways(scenario: Scenario) -> Iterator[Way]:
    """Changes that save memory; some may be impossible for the scenario."""
    layout, train = scenario.layout, scenario.train
    yield from _recompute(scenario)
    for level in range(layout.zero + 1, 4):
        yield Way(f"ZeRO-{level}", {"layout.zero": str(level)})
    if train.mbs > 1:
        yield Way("half the micro-batch", {"train.mbs": str(train.mbs // 2)})
    half = {"layout.dp": str(layout.dp // 2)}
    if layout.dp % 2 == 0:
        pp = 2 * layout.pp
        sets = {"layout.pp": str(pp), "layout.stages": "auto", **half}
        yield Way(f"twice the pipeline ranks, PP{pp}", sets)
    if scenario.model.kind == "moe":
        ep = 2 * layout.ep
        yield Way(f"twice the expert parallelism, EP{ep}", {"layout.ep": str(ep)})
    if layout.dp % 2 == 0 and 2 * layout.tp <= scenario.topology.gpus_per_node:
        tp = 2 * layout.tp
        sets = {"layout.tp": str(tp), "layout.sp": "true", **half}
        yield Way(f"twice the tensor parallelism, TP{tp}", sets)
    yield from _schedules(scenario)


def _recompute(scenario: Scenario) -> Iterator[Way]:
    from simdeep.spec.model import Mla

    now = scenario.train.recompute
    if "full" in now:
        return
    cheap = ["norm", *(["mla_up"] if isinstance(scenario.model.attention, Mla) else []), "swiglu"]
    if set(cheap) - set(now):
        every = ",".join([*cheap, *(op for op in now if op not in cheap)])
        yield Way(f"recompute {every}", {"train.recompute": f"[{every}]"})
    yield Way("recompute whole layers", {"train.recompute": "full"})


def _schedules(scenario: Scenario) -> Iterator[Way]:
    from simdeep.program.schedule import find_schedule, schedule_names

    pp, count = scenario.layout.pp, scenario.microbatches
    for name in schedule_names():
        entry = find_schedule(name)
        form = entry.closed
        if form is None or name == scenario.train.schedule or pp < 2:
            continue
        vpp = entry.vpp_or_own(scenario.layout.vpp)
        chunks = max(form.activations(pp, count, rank, "W", vpp) for rank in range(pp))
        copies = f"{form.param_copies} parameter cop{'y' if form.param_copies == 1 else 'ies'}"
        size = f" of 1/{vpp} the size" if vpp > 1 else ""
        what = f"{name}: at most {chunks} activation chunks{size}, {copies}"
        changes = {"train.schedule": name}
        if vpp != scenario.layout.vpp:
            changes |= {"layout.vpp": str(vpp), "layout.stages": "auto"}
        yield Way(what, changes)
