"""Rules between the values of a serving scenario: what model, cluster and traffic allow."""

from __future__ import annotations

from itertools import pairwise

from simdeep.spec.model import Gqa, Model, MoeFfn
from simdeep.spec.serve_schema import Lengths, PlanStep, ServeFields, Traffic, UnitFields
from simdeep.spec.topology import Topology
from simdeep.spec.validate import Reporter

ROLES = ("prefill", "decode", "mixed")
"""Kinds of units."""

HOURS = 24


def check_serving(
    fields: ServeFields,
    model: Model | None,
    topology: Topology | None,
    context: int | None,
    report: Reporter,
) -> None:
    """Report every broken rule; what could not be read is None (`context`: or is not stated)."""
    given = {role: getattr(fields.deployment, role) for role in ROLES}
    units: dict[str, UnitFields] = {role: unit for role, unit in given.items() if unit is not None}
    _check_roles(fields, units, report)
    for role, unit in units.items():
        at = f"deployment.{role}"
        if topology is not None:
            _check_gpus(unit, at, topology, report)
        if model is not None:
            _check_model(unit, at, model, report)
    if topology is not None and units:
        total = sum(unit.units * unit.tp * unit.dp for unit in units.values())
        parts = " + ".join(f"{u.units}*{u.tp * u.dp} {role}" for role, u in units.items())
        report.rule(
            "deployment topology",
            f"takes {parts} = {total} GPUs; {topology.name} has {topology.gpus}",
            total > topology.gpus,
        )
    _check_context(fields, context, report)
    if fields.traffic is not None:
        _check_traffic(fields.traffic, report)
    report.rule(
        "autoscale traffic.by_hour",
        "follows the hours of the day, but traffic.by_hour is not given; give its 24 shares",
        fields.autoscale is not None and not (fields.traffic and fields.traffic.by_hour),
    )
    if fields.autoscale is not None:
        _check_plan(fields.autoscale.plan, units, report)
    report.rule(
        "window.day traffic.by_hour",
        "is true, but traffic.by_hour is not given; give its 24 shares",
        fields.window.day and not (fields.traffic and fields.traffic.by_hour),
    )


def _check_plan(plan: tuple[PlanStep, ...], units: dict[str, UnitFields], report: Reporter) -> None:
    hours = [step.hour for step in plan]
    report.rule(
        "autoscale.plan",
        f"has hours {', '.join(f'{hour:g}' for hour in hours)}; each must be later than the last",
        any(now <= before for before, now in pairwise(hours)),
    )
    for number, step in enumerate(plan):
        for role in ROLES:
            wanted, at = getattr(step, role), f"autoscale.plan[{number}].{role}"
            if wanted is None:
                continue
            if not report.rule(at, f"is {wanted}; there are no {role} units", role not in units):
                continue
            most = units[role].units
            report.rule(
                f"{at} deployment.{role}.units",
                f"is {wanted}; the deployment has {most}",
                wanted > most,
            )


def _check_roles(fields: ServeFields, units: dict[str, UnitFields], report: Reporter) -> None:
    both = [role for role in ("prefill", "decode") if role in units]
    report.rule(
        "deployment",
        f"has mixed units and {' and '.join(both)} units; give mixed, or prefill and decode",
        bool(both) and "mixed" in units,
    )
    report.rule("deployment", "has no units; give mixed, or prefill and decode", broken=not units)
    missing = [role for role in ("prefill", "decode") if role not in units]
    report.rule(
        "deployment",
        f"has no {' and no '.join(missing)} units, which traffic needs; without traffic one "
        "iteration is looked at",
        fields.traffic is not None and bool(units) and "mixed" not in units and bool(missing),
    )


def _check_gpus(unit: UnitFields, at: str, topology: Topology, report: Reporter) -> None:
    gpu, node, gpus = topology.gpu, topology.gpus_per_node, unit.tp * unit.dp
    report.rule(
        f"{at}.comm_sms topology",
        f"is {unit.comm_sms}; must be from 2 to {gpu.sms - 1}, {gpu.name} has {gpu.sms} SMs",
        not 2 <= unit.comm_sms < gpu.sms,
    )
    report.rule(
        f"{at}.tp topology",
        f"is {unit.tp}; must divide the {node} GPUs of a node of {topology.name}",
        node % unit.tp != 0,
    )
    report.rule(
        f"{at}.dp {at}.tp topology",
        f"makes tp*dp = {unit.tp}*{unit.dp} = {gpus} GPUs; must be whole nodes of {node}, or part "
        "of one",
        gpus > node and gpus % node != 0,
    )
    ep = unit.ep or gpus
    report.rule(
        f"{at}.ep topology",
        f"is {ep}; must be whole nodes of {node}, or part of one",
        ep > node and ep % node != 0 and gpus % node == 0,
    )


def _check_model(unit: UnitFields, at: str, model: Model, report: Reporter) -> None:
    gpus = unit.tp * unit.dp
    report.rule(
        f"{at}.tp model",
        f"is {unit.tp}; must divide the {model.n_heads} attention heads of {model.name}",
        model.n_heads % unit.tp != 0,
    )
    if isinstance(model.attention, Gqa):
        kv = model.attention.kv_heads
        report.rule(
            f"{at}.tp model",
            f"is {unit.tp}; must divide, or be a multiple of, the {kv} key-value heads of "
            f"{model.name}",
            bool(kv % unit.tp and unit.tp % kv),
        )
    report.rule(
        f"{at}.mtp.tokens model",
        f"is {unit.mtp.tokens}, but {model.name} has no multi-token prediction module",
        unit.mtp.tokens > 0 and not model.mtp_layers,
    )
    ffn = next((layer.ffn for layer in model.layers if isinstance(layer.ffn, MoeFfn)), None)
    if ffn is None:
        for key, wrong in (("ep", (unit.ep or 1) != 1), ("redundant", unit.redundant != 0)):
            value = getattr(unit, key)
            report.rule(f"{at}.{key} model", f"is {value}, but {model.name} has no experts", wrong)
        return
    _check_experts(unit, at, model.name, ffn, gpus, report)


def _check_experts(
    unit: UnitFields, at: str, name: str, ffn: MoeFfn, gpus: int, report: Reporter
) -> None:
    ep = unit.ep or gpus
    divides = report.rule(
        f"{at}.ep {at}.tp {at}.dp",
        f"is {ep}; must divide tp*dp = {unit.tp}*{unit.dp} = {gpus}",
        gpus % ep != 0,
    )
    if not divides:
        return
    if unit.shared == "routed":
        report.rule(
            f"{at}.shared model",
            f"is routed, but {name} has no shared experts",
            not ffn.shared_width,
        )
        return
    total = ffn.experts + unit.redundant
    report.rule(
        f"{at}.redundant {at}.ep model",
        f"is {unit.redundant}; {ffn.experts} experts and their replicas must fill {ep} GPUs "
        f"evenly, as redundant: {-(-total // ep) * ep - ffn.experts} does",
        total % ep != 0,
    )


def _check_context(fields: ServeFields, context: int | None, report: Reporter) -> None:
    if context is None:
        return
    report.rule(
        "iteration.context model",
        f"is {fields.iteration.context}; the model's context is {context} tokens",
        fields.iteration.context > context,
    )
    traffic = fields.traffic
    if traffic is None:
        return
    report.rule(
        "traffic.max_context model",
        f"is {traffic.max_context}; the model's context is {context} tokens",
        (traffic.max_context or 0) > context,
    )
    limit = min(traffic.max_context or context, context)
    for key, lengths in (("input", traffic.input), ("output", traffic.output)):
        for name, value in (("mean", lengths.mean), ("max", lengths.max or 0)):
            report.rule(
                f"traffic.{key}.{name} traffic.max_context model",
                f"is {value:g}; the context is {limit} tokens",
                value > limit,
            )
    report.rule(
        "traffic.input.mean traffic.output.mean traffic.max_context model",
        f"is {traffic.input.mean:g}, with traffic.output.mean {traffic.output.mean:g} more than "
        f"the context of {limit} tokens",
        traffic.input.mean + traffic.output.mean > limit >= max(_means(traffic)),
    )


def _means(traffic: Traffic) -> tuple[float, float]:
    return traffic.input.mean, traffic.output.mean


def _check_traffic(traffic: Traffic, report: Reporter) -> None:
    is_trace = traffic.arrival == "trace"
    report.rule(
        "traffic.file traffic.arrival",
        "is missing; arrival trace needs a file",
        is_trace and traffic.file is None,
    )
    report.rule(
        "traffic.file traffic.arrival",
        f"is given, but arrival is {traffic.arrival}; set traffic.arrival=trace",
        not is_trace and traffic.file is not None,
    )
    report.rule(
        "traffic.rate traffic.arrival",
        "is missing; give requests a second, such as 100/s",
        not is_trace and traffic.rate is None,
    )
    report.rule(
        "traffic.by_hour",
        f"has {len(traffic.by_hour)} shares; must have {HOURS}, one an hour",
        len(traffic.by_hour) not in (0, HOURS),
    )
    for key, lengths in (("input", traffic.input), ("output", traffic.output)):
        _check_lengths(f"traffic.{key}", lengths, report)


def _check_lengths(at: str, lengths: Lengths, report: Reporter) -> None:
    report.rule(
        f"{at}.max {at}.mean",
        f"is {lengths.max}; must be at least the mean of {lengths.mean:g}",
        lengths.max is not None and lengths.max < lengths.mean,
    )
