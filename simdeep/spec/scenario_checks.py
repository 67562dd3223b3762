"""Rules between the values of a scenario: what model, cluster and layout allow together."""

from __future__ import annotations

from simdeep.spec.faults import check_faults
from simdeep.spec.model import DenseFfn, Gqa, Mla, Model, MoeFfn
from simdeep.spec.scenario_schema import (
    ChunkOptions,
    LayoutFields,
    PairScenario,
    Routing,
    Train,
    TrainScenario,
)
from simdeep.spec.scenario_types import GEMM_DTYPE
from simdeep.spec.schedules import SCHEDULE_RULES, ScheduleRule
from simdeep.spec.topology import Topology
from simdeep.spec.validate import Reporter

_SEARCHED = ScheduleRule(vpp=(1, None))
"""Rules of a schedule yet to be found."""

DEGREES = "layout.dp layout.pp layout.tp layout.cp topology"


def derive_dp(layout: LayoutFields, topology: Topology) -> int:
    """The data parallel degree: as given, else what the topology's GPUs leave (at least 1)."""
    if layout.dp is not None:
        return layout.dp
    return max(1, topology.gpus // (layout.tp * layout.cp * layout.pp))


def check_scenario(
    fields: TrainScenario | PairScenario,
    model: Model | None,
    topology: Topology | None,
    report: Reporter,
) -> None:
    """Report every broken rule; `model` and `topology` are None when they could not be read."""
    layout, chunk = fields.layout, fields.train
    dp = layout.dp or 1
    if topology is not None:
        dp = derive_dp(layout, topology)
        _check_gpus(layout, dp, topology, report, whole=isinstance(fields, TrainScenario))
        _check_gpu_type(chunk, topology, report)
        ranks = min(layout.tp * layout.cp * layout.pp * dp, topology.gpus)
        check_faults(fields.faults, topology, ranks, fields.simulate.fold, report)
    if layout.dp is not None or topology is not None:
        _check_groups(layout, dp, report)
    _check_sequence(layout, chunk, report)
    _check_routing(fields.routing, report)
    if model is not None:
        _check_model_split(layout, model, report)
        _check_recompute(chunk, model, report)
        if isinstance(fields, PairScenario):
            _check_pair(fields, model, report)
        else:
            _check_stages(layout, model, report)
            report.rule(
                "train.mtp model",
                f"is true, but {model.name} has no multi-token prediction module",
                fields.train.mtp and not model.mtp_layers,
            )
    if isinstance(fields, PairScenario):
        for name in ("pp", "vpp"):
            report.rule(
                f"layout.{name}",
                f"is {getattr(layout, name)}; a pair of chunks runs on one stage, so it must be 1",
                getattr(layout, name) != 1,
            )
    else:
        _check_schedule(layout, dp, fields.train, report)


def _check_gpus(
    layout: LayoutFields, dp: int, topology: Topology, report: Reporter, whole: bool
) -> None:
    per_replica = layout.tp * layout.cp * layout.pp
    used, have = per_replica * dp, topology.gpus
    product = f"tp*cp*pp*dp = {layout.tp}*{layout.cp}*{layout.pp}*{dp} = {used} GPUs"
    if layout.dp is None:
        product = f"tp*cp*pp = {layout.tp}*{layout.cp}*{layout.pp} = {per_replica} GPUs"
        report.rule(
            "layout.pp layout.tp layout.cp topology",
            f"{product} for one replica does not divide the {have} of {topology.name}",
            have % per_replica != 0,
        )
    elif whole:
        fits = f"; dp: {have // per_replica} fits" if have % per_replica == 0 else ""
        report.rule(
            DEGREES, f"{product}, but {topology.name} has {have}{fits}", broken=used != have
        )
    else:
        report.rule(DEGREES, f"{product}, but {topology.name} has only {have}", used > have)


def _check_gpu_type(chunk: ChunkOptions, topology: Topology, report: Reporter) -> None:
    gpu = topology.gpu
    report.rule(
        "train.comm_sms topology",
        f"is {chunk.comm_sms}; with collective_sms it must be less than the {gpu.sms} SMs of "
        f"{gpu.name}",
        chunk.comm_sms + chunk.collective_sms >= gpu.sms,
    )
    report.rule(
        "train.precision topology",
        f"is {chunk.precision}, but {gpu.name} has no {chunk.precision} peak; "
        f"it has {', '.join(sorted(gpu.peak))}",
        GEMM_DTYPE.get(chunk.precision, chunk.precision) not in gpu.peak,
    )


def _check_groups(layout: LayoutFields, dp: int, report: Reporter) -> None:
    width = dp * layout.cp * layout.tp
    fits = max(d for d in range(1, min(layout.ep, width) + 1) if width % d == 0)
    report.rule(
        "layout.ep layout.dp layout.cp layout.tp",
        f"is {layout.ep}; must divide dp*cp*tp = {dp}*{layout.cp}*{layout.tp} = {width}, "
        f"as {fits} does",
        width % layout.ep != 0,
    )


def _check_sequence(layout: LayoutFields, chunk: ChunkOptions, report: Reporter) -> None:
    cut = layout.cp * (layout.tp if layout.sp else 1)
    name = "cp*tp (sequence parallelism)" if layout.sp else "cp"
    report.rule(
        "train.seq_len layout.cp layout.tp layout.sp",
        f"is {chunk.seq_len}; must be divisible by {name} = {cut}",
        chunk.seq_len % cut != 0,
    )


def _check_model_split(layout: LayoutFields, model: Model, report: Reporter) -> None:
    report.rule(
        "layout.tp model",
        f"is {layout.tp}; must divide the {model.n_heads} attention heads of {model.name}",
        model.n_heads % layout.tp != 0,
    )
    if isinstance(model.attention, Gqa):
        kv = model.attention.kv_heads
        report.rule(
            "layout.tp model",
            f"is {layout.tp}; must divide, or be a multiple of, the {kv} key-value heads of "
            f"{model.name}",
            bool(kv % layout.tp and layout.tp % kv),
        )
    experts = {layer.ffn.experts for layer in model.layers if isinstance(layer.ffn, MoeFfn)}
    if not experts:
        report.rule(
            "layout.ep model",
            f"is {layout.ep}, but {model.name} has no experts; must be 1",
            layout.ep != 1,
        )
    for count in sorted(experts):
        fits = max(d for d in range(1, min(layout.ep, count) + 1) if count % d == 0)
        report.rule(
            "layout.ep model",
            f"is {layout.ep}; must divide the {count} experts of {model.name}, as {fits} does",
            count % layout.ep != 0,
        )


def _check_recompute(chunk: ChunkOptions, model: Model, report: Reporter) -> None:
    report.rule(
        "train.recompute model",
        f"names mla_up, but {model.name} has no latent attention (MLA)",
        "mla_up" in chunk.recompute and not isinstance(model.attention, Mla),
    )
    gated = all(isinstance(layer.ffn, DenseFfn) and layer.ffn.gated for layer in model.layers)
    report.rule(
        "train.recompute train.precision model",
        f"names products, which {model.name} in {chunk.precision} cannot have: it needs "
        "grouped-query attention, a gated dense feed-forward network, and a precision other than "
        "fp8",
        "products" in chunk.recompute
        and (not gated or isinstance(model.attention, Mla) or chunk.precision == "fp8"),
    )


def _check_stages(layout: LayoutFields, model: Model, report: Reporter) -> None:
    n = layout.pp * layout.vpp
    needs = f"pp*vpp = {layout.pp}*{layout.vpp} = {n} stages"
    if layout.stages == "auto":
        report.rule(
            "layout.pp layout.vpp model",
            f"{needs} need as many layers; {model.name} has {model.n_layers}",
            n > model.n_layers,
        )
        return
    counts = layout.stages
    report.rule(
        "layout.stages layout.pp layout.vpp",
        f"lists {len(counts)} stages, but there are {needs}; give {n} numbers, or auto",
        len(counts) != n,
    )
    report.rule(
        "layout.stages model",
        f"sums to {sum(counts)} layers, but {model.name} has {model.n_layers}; correct a stage, "
        "or use auto",
        sum(counts) != model.n_layers,
    )
    report.rule(
        "layout.stages",
        f"stage {next((i for i, c in enumerate(counts) if c == 0), 0)} has no layer; only the "
        "first and the last may hold none",
        any(count == 0 for count in counts[1:-1]),
    )


def _check_schedule(layout: LayoutFields, dp: int, train: Train, report: Reporter) -> None:
    rule, name, pp = SCHEDULE_RULES.get(train.schedule, _SEARCHED), train.schedule, layout.pp
    report.rule(
        "layout.vpp train.schedule",
        f"is {layout.vpp}; {name} has {rule.vpp_words}, so it must be {rule.vpp_text}",
        not rule.takes_vpp(layout.vpp),
    )
    report.rule(
        "layout.pp train.schedule",
        f"is {pp}; must be even for {name}, which pairs ranks from both ends",
        rule.even_pp and pp % 2 != 0,
    )
    per_step = dp * train.mbs
    keys = "train.gbs train.mbs layout.dp layout.pp layout.tp layout.cp topology"
    whole = report.rule(
        keys,
        f"is {train.gbs}; must be a multiple of dp*mbs = {dp}*{train.mbs} = {per_step}, such as "
        f"{max(1, round(train.gbs / per_step)) * per_step}",
        train.gbs % per_step != 0,
    )
    if not whole:
        return
    microbatches, least = train.gbs // per_step, rule.microbatches_per_rank * pp
    keys += " train.schedule"
    given = f"is {train.gbs}, which makes gbs/(dp*mbs) = {microbatches} micro-batches; {name}"
    enough = report.rule(
        keys,
        f"{given} at pp {pp} needs at least {least}: gbs {least * per_step}",
        microbatches < least,
    )
    if enough:
        report.rule(
            keys,
            f"{given} needs an even number, half for each direction",
            rule.even_microbatches and microbatches % 2 != 0,
        )


def _check_routing(routing: Routing, report: Reporter) -> None:
    report.rule(
        "routing.file routing.kind",
        "is missing; routing kind recorded needs a file",
        routing.kind == "recorded" and routing.file is None,
    )


def _check_pair(fields: PairScenario, model: Model, report: Reporter) -> None:
    end = fields.layers.first + fields.layers.count
    report.rule(
        "layers.count layers.first model",
        f"layers {fields.layers.first}..{end - 1}; {model.name} has 0..{model.n_layers - 1}",
        end > model.n_layers,
    )
    report.rule(
        "simulate.fold routing.kind",
        "is false, but a pair on recorded routing has the loads of one GPU only; set "
        "routing.kind=gate",
        fields.routing.kind == "recorded" and not fields.simulate.fold,
    )
