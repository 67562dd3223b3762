"""A plan as launch arguments of a training framework.

Names are those of Megatron-LM's `megatron/training/arguments.py` and of torchtitan's
`torchtitan/config/job_config.py`. What a framework cannot do is said in a comment, never left out
in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simdeep.spec.model import Gqa, MoeFfn

if TYPE_CHECKING:
    from simdeep.planner.plan import Plan
    from simdeep.spec.scenario import Scenario

FORMATS = ("megatron", "torchtitan")

_MEGATRON_SCHEDULES = ("1f1b", "interleaved-1f1b", "interleaved-1f1b-overlap")
_TITAN_SCHEDULES = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved-1f1b": "Interleaved1F1B",
    "interleaved-zb": "InterleavedZeroBubble",
    "zb-v": "ZBVZeroBubble",
    "dualpipev": "DualPipeV",
}


def launch_arguments(plan: Plan, framework: str) -> str:
    """The arguments of a plan for one of `FORMATS`, a line each."""
    return _megatron(plan) if framework == "megatron" else _torchtitan(plan)


def _megatron(plan: Plan) -> str:
    choice, scenario = plan.choice, plan.scenario
    model, train = scenario.model, scenario.train
    lines = [
        f"--tensor-model-parallel-size {choice.tp}",
        f"--pipeline-model-parallel-size {choice.pp}",
        f"--context-parallel-size {choice.cp}",
        f"--expert-model-parallel-size {choice.ep}",
        "--expert-tensor-parallel-size 1",
        f"--micro-batch-size {choice.mbs}",
        f"--global-batch-size {train.gbs}",
        f"--seq-length {train.seq_len}",
    ]
    lines += ["--sequence-parallel"] if choice.tp > 1 else []
    notes = []
    if choice.schedule not in _MEGATRON_SCHEDULES:
        notes.append(f"Megatron-LM has no schedule {choice.schedule}; it would run 1F1B")
    if choice.vpp > 1:
        lines.append(f"--num-virtual-stages-per-pipeline-rank {choice.vpp}")
    if choice.schedule == "interleaved-1f1b-overlap":
        lines.append("--overlap-moe-expert-parallel-comm")
    lines += _megatron_memory(plan, notes)
    if any(isinstance(layer.ffn, MoeFfn) for layer in model.layers) and choice.ep > 1:
        lines += ["--moe-token-dispatcher-type flex", "--moe-enable-deepep"]
        lines.append(f"--moe-deepep-num-sms {choice.comm_sms}")
    lines.append("--bf16")
    if choice.precision == "fp8":
        lines += ["--fp8-format e4m3", "--fp8-recipe blockwise"]
    elif choice.precision != "bf16":
        notes.append(f"precision {choice.precision}: set Transformer Engine's recipe by hand")
    counts = [len(stage.layers) for stage in scenario.layout.stages]
    if len(set(counts)) > 1:
        cut = "|".join(
            ("E" if i == 0 else "") + f"t*{n}" + _end_of(scenario, i) for i, n in enumerate(counts)
        )
        lines.append(f"--pipeline-model-parallel-layout '{cut}'")
    if isinstance(model.attention, Gqa):
        lines.append(f"--num-query-groups {model.attention.kv_heads}")
    return "".join(f"{line}\n" for line in [*lines, *(f"# {note}" for note in notes)])


def _end_of(scenario: Scenario, stage: int) -> str:
    """Letters of what a stage holds behind its layers: MTP module, head with loss."""
    held = scenario.layout.stages[stage]
    return ("m" if held.mtp else "") + ("L" if held.head else "")


def _megatron_memory(plan: Plan, notes: list[str]) -> list[str]:
    """ZeRO and recomputation."""
    choice = plan.choice
    lines = []
    if choice.zero == 1:
        lines.append("--use-distributed-optimizer")
    elif choice.zero >= 2:
        kind = "optim_grads" if choice.zero == 2 else "optim_grads_params"
        lines += ["--use-custom-fsdp", f"--data-parallel-sharding-strategy {kind}"]
    if "full" in choice.recompute:
        lines += ["--recompute-granularity full", "--recompute-method uniform"]
        lines.append("--recompute-num-layers 1")
    elif choice.recompute:
        names = {"norm": "layernorm", "mla_up": "mla_up_proj", "selective": "core_attn"}
        known = [names[name] for name in choice.recompute if name in names]
        known += ["moe_act"] if "swiglu" in choice.recompute else []
        lines += ["--recompute-granularity selective"]
        lines.append(f"--recompute-modules {' '.join(known)}")
        odd = [n for n in choice.recompute if n not in names and n != "swiglu"]
        notes += [f"recomputation {name} has no Megatron-LM module" for name in odd]
    return lines


def _torchtitan(plan: Plan) -> str:
    choice, scenario = plan.choice, plan.scenario
    train = scenario.train
    notes = []
    schedule = _TITAN_SCHEDULES.get(choice.schedule)
    if schedule is None and choice.pp > 1:
        notes.append(f"torchtitan has no schedule {choice.schedule}; it would run 1F1B")
    shards = choice.dp if choice.zero >= 1 else 1
    if choice.zero in (1, 2):
        notes.append(f"ZeRO-{choice.zero}: torchtitan shards parameters too unless they are kept")
    lines = [
        "[training]",
        f"local_batch_size = {choice.mbs * choice.microbatches}",
        f"global_batch_size = {train.gbs}",
        f"seq_len = {train.seq_len}",
        "",
        "[parallelism]",
        f"data_parallel_replicate_degree = {choice.dp // shards}",
        f"data_parallel_shard_degree = {shards}",
        "fsdp_reshard_after_forward = " + ('"always"' if choice.zero == 3 else '"never"'),
        f"tensor_parallel_degree = {choice.tp}",
        f"context_parallel_degree = {choice.cp}",
        f"expert_parallel_degree = {choice.ep}",
        f"pipeline_parallel_degree = {choice.pp}",
        f'pipeline_parallel_schedule = "{schedule or "1F1B"}"',
        f"pipeline_parallel_microbatch_size = {choice.mbs}",
    ]
    mode = "none"
    if choice.recompute:
        mode = "full" if "full" in choice.recompute else "selective"
    lines += ["", "[activation_checkpoint]", f'mode = "{mode}"']
    if choice.precision == "fp8":
        lines += ["", "[model]", 'converters = ["float8"]']
    return "".join(f"{line}\n" for line in [*(f"# {note}" for note in notes), *lines])
