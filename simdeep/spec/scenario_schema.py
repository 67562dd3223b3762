"""The fields of a scenario file: each declared once with its type, unit, default and meaning.

The reader, `simdeep schema` and the documentation are made from these declarations. Required fields
carry an example, which messages show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simdeep.spec.changes import Named
from simdeep.spec.fault_schema import Fault, Reliability
from simdeep.spec.plan_schema import PlanFields
from simdeep.spec.scenario_types import (
    Degree,
    Fusion,
    Precision,
    Recompute,
    ScheduleField,
    Sending,
    Skew,
    Stages,
    StateDtype,
    UsdPerHour,
)


def _also(*names: str) -> dict[str, Any]:
    """Other names a key may be written by (Megatron's)."""
    return {"aliases": list(names)}


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LayoutFields(Section):
    """Parallel degrees and the cut into pipeline stages."""

    tp: Degree = Field(
        default=1,
        description="tensor parallel degree",
        json_schema_extra=_also("tensor_model_parallel_size"),
    )
    pp: Degree = Field(
        default=1,
        description="pipeline parallel degree (ranks of one pipeline)",
        json_schema_extra=_also("pipeline_model_parallel_size"),
    )
    vpp: Degree = Field(
        default=1,
        description="stages each pipeline rank holds",
        json_schema_extra=_also("virtual_pipeline_model_parallel_size"),
    )
    cp: Degree = Field(
        default=1,
        description="context parallel degree",
        json_schema_extra=_also("context_parallel_size"),
    )
    ep: Degree = Field(
        default=1,
        description="expert parallel degree; divides dp*cp*tp and the experts",
        json_schema_extra=_also("expert_model_parallel_size"),
    )
    dp: Degree | None = Field(
        default=None,
        description="data parallel degree; by default what the topology's GPUs leave",
        json_schema_extra=_also("data_parallel_size"),
    )
    zero: Annotated[int, Field(ge=0, le=3)] = Field(
        default=1, description="ZeRO level of the data parallel group (3: FSDP)"
    )
    sp: bool = Field(
        default=False,
        description="Megatron's sequence parallelism on the tp group",
        json_schema_extra=_also("sequence_parallel"),
    )
    stages: Stages = Field(
        default="auto",
        description="decoder layers of each of the pp*vpp stages, or auto: balanced by FLOPs",
    )


class Dtypes(Section):
    """Number formats of the training state in GPU memory."""

    params: StateDtype = Field(default="bf16", description="working parameters")
    grads: StateDtype = Field(default="fp32", description="accumulated gradients")
    master: StateDtype = Field(default="fp32", description="the optimizer's parameters")
    moments: StateDtype = Field(default="fp32", description="AdamW's two moments")
    ema: bool = Field(
        default=False, description="keep an average of the parameters, in host memory"
    )


class ChunkOptions(Section):
    """How the chunk of one stage and one micro-batch runs."""

    seq_len: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        default=4096,
        description="tokens of a sequence",
        json_schema_extra=_also("seq_length"),
    )
    mbs: Annotated[int, Field(ge=1, le=1 << 16)] = Field(
        default=1,
        description="sequences of a micro-batch",
        json_schema_extra=_also("micro_batch_size"),
    )
    precision: Precision = Field(
        default="bf16",
        description="format of the linear layers' GEMMs; fp8 is DeepSeek-V3's recipe, the others "
        "with fp8 and fp4 Transformer Engine's",
    )
    attention: Literal["flash", "flash1", "flash2", "unfused"] = Field(
        default="flash",
        description="attention core: flash, the GPU's best kernel that never writes scores to "
        "memory; flash1 and flash2, FlashAttention's of those versions; or unfused",
    )
    dropout: bool = Field(
        default=False, description="dropout of attention scores and both branches of a layer"
    )
    fusions: tuple[Fusion, ...] = Field(
        default=("norm_residual", "wgrad_accumulate", "loss"),
        strict=False,
        description="what is fused: the residual's addition into the norm, the accumulation of "
        "gradients into the weight gradient's GEMM, the cross-entropy over the logits",
    )
    eager: bool = Field(
        default=False,
        description="RMSNorm, rotary embedding and gated activation as single PyTorch operators, "
        "each a kernel of its own, instead of one kernel each",
    )
    tp_overlap: Literal["none", "backward", "full"] = Field(
        default="backward",
        description="tensor parallel collectives beside compute: none; the backward's beside "
        "weight gradients; full: also chunk by chunk with the GEMM before or after (user buffers, "
        "async TP)",
    )
    tp_exposed: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="tp_overlap full: share of a collective that no compute hides, at least one of "
        "tp chunks",
    )
    cp_ring: Literal["fused", "operators"] = Field(
        default="fused",
        description="context parallel attention: fused, parts joined inside the core's kernels; "
        "operators, as PyTorch's: keys and values of every query head go round, and FP32 parts "
        "are joined by single operators",
    )
    host_launch_us: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0,
        description="time the host takes to launch one kernel (us); a layer of many short "
        "kernels runs no faster than its launches; 0: as under CUDA graphs",
    )
    recompute: Recompute = Field(
        default=(),
        description="what the backward computes again instead of keeping: none, or a list of norm, "
        "mla_up, swiglu, products (every second product of a dense layer, and all between them: "
        "torch's selective checkpointing by operator), selective (the attention core) and full "
        "(the layer)",
    )
    comm_sms: Annotated[int, Field(ge=0)] = Field(
        default=0, description="SMs that all-to-all transfers hold while they run"
    )
    collective_sms: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="SMs that collectives of tensor and context parallel groups hold besides "
        "(user buffers of Transformer Engine take 16 by default; 0: copied without SMs)",
    )
    reserved_gib: Annotated[float, Field(ge=0)] = Field(
        default=1.5,
        description="GPU memory a process takes before its first tensor: CUDA context, NCCL "
        "channels, allocator slack (GiB; a guess, idle NCCL jobs show 1 to 2)",
    )
    sm_split: Literal["static", "dynamic"] = Field(
        default="static",
        description="static: compute never gets the transfers' SMs; dynamic: it does when idle",
    )


class Train(ChunkOptions):
    """One training step."""

    schedule: ScheduleField = Field(
        default="1f1b",
        description="pipeline schedule, also by torch's class names; auto: searched for this step",
    )
    gbs: Annotated[int, Field(ge=1, le=1 << 30)] = Field(
        description="sequences of a global batch",
        examples=[1],
        json_schema_extra=_also("global_batch_size"),
    )
    mtp: bool = Field(default=False, description="train the model's multi-token prediction modules")
    grad_sync: Literal["after", "overlap"] = Field(
        default="after",
        description="reduce gradients after the last backward, or beside the last backwards",
    )
    sends: tuple[Sending, ...] = Field(
        default=(),
        strict=False,
        description="transfers between pipeline ranks: scattered, each tensor parallel rank sends "
        "its part of what all of them hold, and they gather it again (arXiv 2104.04473 sec 4.1); "
        "awaited, a rank starts no other chunk before its send is through",
    )
    host_step_ms: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="time of a step in which the host keeps the GPU waiting: the next batch, the "
        "loss read and logged (ms)",
    )
    gather_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="ZeRO 2 and 3: share of a collective's rate at large messages that gathers and "
        "scatters of one layer reach",
    )
    optimizer_sync: Literal["step", "late"] = Field(
        default="step",
        description="step: the optimizer waits for the gradient norm of all ranks; late: it does "
        "not, and takes a wrong step back (post-validation, arXiv 2401.10241 sec 4)",
    )
    optimizer: Literal["adamw"] = Field(default="adamw", description="optimizer")
    dtypes: Dtypes = Field(default=Dtypes(), description="formats of the training state")


class Routing(Section):
    """Which experts tokens go to."""

    kind: Literal["balanced", "gate", "recorded"] = Field(
        default="balanced",
        description="balanced: every expert gets the same; gate: drawn from a gate; recorded: "
        "loads from a file",
    )
    skew: Skew | None = Field(
        default=None,
        description="gate: standard deviation of the experts' popularity in logits (0: all alike), "
        "or zipf:1.2, popularity by Zipf's law; by default as uneven as DeepSeek's H800 trace",
    )
    draws: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=24,
        description="gate: independent draws that micro-batches and layers cycle through",
    )
    file: str | None = Field(
        default=None, description="recorded: shipped name, or path beside the scenario"
    )


class Jitter(Section):
    """Random differences between peers."""

    kernel_cv: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="coefficient of variation of a component's time between peers; by default as "
        "measured in the calibration",
    )


class Simulate(Section):
    """How the simulation runs; no result should hang on it but the seed's."""

    fold: bool = Field(
        default=True, description="one GPU stands for its EP and DP peers on a pipeline rank"
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        default=0, description="seed of every random draw"
    )
    engine: Literal["reference", "compiled"] = Field(
        default="compiled", description="both engines give the same timeline; compiled is faster"
    )


class Price(Section):
    """Money."""

    usd_per_gpu_hour: Annotated[UsdPerHour, Field(ge=0)] | None = Field(
        default=None, description="US dollars for a GPU-hour; by default the topology's"
    )


class Goal(Section):
    """What the job is for."""

    tokens: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="tokens of the whole run; costs are also given for all of them"
    )


class PairLayers(Section):
    """The layers an overlapped pair of chunks runs through."""

    first: Annotated[int, Field(ge=0)] = Field(description="first decoder layer", examples=[0])
    count: Annotated[int, Field(ge=1)] = Field(description="number of layers", examples=[1])


class Sweep(Section):
    """What `simdeep sweep` varies when it is not told otherwise."""

    vary: dict[str, str | list[Any]] = Field(
        default={},
        description="values by key, such as 'train.comm_sms: [8, 20]', or as --vary writes them: "
        "'1f1b,dualpipe', '0:40:11' (from, to, how many), '256:4096:5:log'",
    )
    x: str | None = Field(default=None, description="key along the horizontal axis of charts")
    y: str | None = Field(
        default=None, description="figure that charts show, such as mfu; default: the step's time"
    )


class ScenarioFields(Section):
    """What every scenario has."""

    model: Named = Field(
        description="model: shipped name, path of a Hugging Face config.json, or base and what "
        "differs from it",
        examples=["deepseek-v3"],
    )
    topology: Named = Field(
        description="cluster: shipped name, path of a topology file, or base and what differs "
        "from it",
        examples=["h800-2048"],
    )
    layout: LayoutFields = Field(default=LayoutFields(), description="parallel layout")
    routing: Routing = Field(default=Routing(), description="expert routing")
    jitter: Jitter = Field(default=Jitter(), description="random differences between peers")
    simulate: Simulate = Field(default=Simulate(), description="how the simulation runs")
    price: Price = Field(default=Price(), description="money")
    goal: Goal = Field(default=Goal(), description="what the job is for")
    faults: tuple[Fault, ...] = Field(
        default=(), description="GPUs, NICs and nodes that are slow, broken or lost"
    )
    reliability: Reliability | None = Field(
        default=None,
        description="how often the cluster fails, for effective training time; by default only "
        "looked at if a node is lost",
    )
    calibration: str | None = Field(
        default=None,
        description="measured efficiencies: shipped name or path; by default the GPU's own",
    )
    sweep: Sweep | None = Field(default=None, description="what simdeep sweep varies")


class TrainScenario(ScenarioFields):
    """`kind: train`: one training step on the whole topology."""

    kind: Literal["train"] = Field(description="what to simulate", examples=["train"])
    train: Train = Field(description="the training step", examples=[{"gbs": 1}])
    plan: PlanFields | None = Field(
        default=None, description="values that `simdeep plan` may choose from"
    )


class PairScenario(ScenarioFields):
    """`kind: fb-pair`: one overlapped forward and backward chunk, on part of the topology."""

    kind: Literal["fb-pair"] = Field(description="what to simulate", examples=["fb-pair"])
    layers: PairLayers = Field(
        description="layers of the pair", examples=[{"first": 0, "count": 1}]
    )
    train: ChunkOptions = Field(default=ChunkOptions(), description="how the chunks run")


class AllToAllFields(Section):
    """One dispatch and combine of an expert-parallel group by itself."""

    ep: Degree = Field(default=64, description="GPUs of the group: whole nodes, or part of one")
    tokens: Annotated[int, Field(ge=1, le=1 << 24)] = Field(
        default=4096, description="tokens that each GPU sends"
    )
    mode: Literal["normal", "low-latency"] = Field(
        default="normal",
        description="normal: high-throughput kernels, a copy for each node; low-latency: a message "
        "for each expert, no SMs held",
    )
    comm_sms: Annotated[int, Field(ge=0)] = Field(
        default=20, description="normal: SMs that copy tokens"
    )
    max_nodes: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="nodes a token may use; by default as the model's gate has it"
    )
    placement: str = Field(
        default="contiguous",
        description="experts' GPUs: contiguous, eplb, search, or a file with the experts of each "
        "rank",
    )
    redundant: Annotated[int, Field(ge=0, le=1 << 16)] = Field(
        default=0, description="replicas placed beside the experts"
    )
    ecmp: Literal["static", "hashed", "adaptive"] = Field(
        default="static", description="how flows choose among equal ways through the fabric"
    )
    node_stride: Degree = Field(
        default=1, description="the group takes every so-many-th node of the cluster"
    )
    dtype: Literal["fp8", "bf16"] = Field(default="fp8", description="dispatched tokens' format")
    draws: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="routing draws, or dispatches of a trace, to average; by default 1, or up to 16"
        " of a trace",
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        default=0, description="seed of routing and of hashed routes"
    )


class AllToAllScenario(Section):
    """`kind: alltoall`: one expert dispatch and combine, for `simdeep alltoall`."""

    kind: Literal["alltoall"] = Field(description="what to simulate", examples=["alltoall"])
    model: str = Field(
        description="model: shipped name, or path of a Hugging Face config.json",
        examples=["deepseek-v3"],
    )
    topology: str = Field(
        description="cluster: shipped name, or path of a topology file", examples=["h800-2048"]
    )
    alltoall: AllToAllFields = Field(
        default=AllToAllFields(), description="the dispatch and combine"
    )
    routing: Routing = Field(default=Routing(), description="expert routing")


SCENARIO_KINDS: dict[str, type[TrainScenario] | type[PairScenario]] = {
    "train": TrainScenario,
    "fb-pair": PairScenario,
}
