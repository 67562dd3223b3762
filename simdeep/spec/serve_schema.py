"""The fields of a serving scenario (`kind: serve`), each declared once.

A serving scenario is a model on a cluster (`deployment`: prefill and decode units, or mixed ones),
what arrives (`traffic`), and what is wanted (`slo`). Without `traffic` it is one iteration of each
unit, at the point that `iteration` names.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from simdeep.spec.hardware import quantity
from simdeep.spec.scenario_schema import Price, Section
from simdeep.spec.scenario_types import Degree, Skew
from simdeep.spec.size_schema import SizeSpace

MAX_CONTEXT = 1 << 24
"""Most tokens of a sequence that any key takes."""

_PER = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def read_rate(value: object) -> float:
    """Events a second from `100/s`; a bare number is refused, its unit could be any."""
    number, slash, unit = str(value).rpartition("/")
    try:
        rate = float(number) / _PER[unit.strip()]
    except (KeyError, ValueError):
        lacks = "" if slash else " has no unit;"
        raise ValueError(
            f"{value!r}{lacks} write a rate as in '100/s', '6000/min', '1e6/d'"
        ) from None
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"{value!r} is out of range: a rate must be greater than zero")
    return rate


def _as_tuple(value: object) -> object:
    """A list of a file as the tuple that frozen fields hold."""
    return tuple(value) if isinstance(value, list) else value


def _written(unit: str) -> PlainSerializer:
    """Writes a base-unit number as text with its unit, which reads back as the same number."""
    return PlainSerializer(lambda value: f"{value!r}{unit}", return_type=str, when_used="json")


Duration: TypeAlias = Annotated[float, *quantity("time"), _written(" s")]
"""A time with its unit, above zero, in seconds."""
Pause: TypeAlias = Annotated[float, *quantity("time", positive=False), _written(" s")]
"""A time with its unit, zero allowed, in seconds."""
Rate: TypeAlias = Annotated[
    float,
    BeforeValidator(read_rate),
    WithJsonSchema({"type": "string", "description": "a rate", "examples": ["100/s"]}),
    _written("/s"),
]
"""Events a second, written as `100/s`, `6000/min` or `1e6/d`."""
Bandwidth: TypeAlias = Annotated[float, *quantity("bandwidth"), _written(" B/s")]
Capacity: TypeAlias = Annotated[float, *quantity("capacity"), _written(" B")]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=MAX_CONTEXT)]


class Mtp(Section):
    """Speculative decoding by the model's multi-token prediction modules."""

    tokens: Annotated[int, Field(ge=0, le=8)] = Field(
        default=0,
        description="tokens drafted a step, each by a pass of the first module; a step verifies "
        "them together with the next token (0: none)",
    )
    acceptance: Share = Field(
        default=0.85,
        description="chance that a drafted token is accepted, given those before it were "
        "(DeepSeek: 0.80 to 0.90 for the first)",
    )


class UnitFields(Section):
    """One kind of unit: the GPUs that run an iteration together. It has tp*dp GPUs."""

    tp: Degree = Field(
        default=1, description="tensor parallel degree of attention and dense layers"
    )
    sp: bool = Field(default=False, description="sequence parallelism on the tp group")
    dp: Degree = Field(default=1, description="attention replicas (DP ranks) of a unit")
    ep: Degree | None = Field(
        default=None,
        description="GPUs the experts are spread over; by default all GPUs of the unit (1 in a "
        "dense model, whose FFN is split like attention)",
    )
    redundant: Annotated[int, Field(ge=0, le=1 << 16)] = Field(
        default=0, description="replicas of popular experts besides one of each, in all"
    )
    shared: Literal["replicated", "routed"] = Field(
        default="replicated",
        description="shared experts: replicated on every GPU, or routed: on the GPUs that the "
        "experts and their replicas leave, and dispatched to like a routed expert",
    )
    units: Degree = Field(
        default=1, description="units of this kind in the deployment (at its peak, if it scales)"
    )
    weights: Literal["fp8", "bf16", "fp4"] = Field(
        default="fp8", description="format of the linear layers' weights and GEMMs"
    )
    kv: Literal["bf16", "fp8", "fp4"] = Field(default="bf16", description="format of the KV cache")
    dispatch: Literal["fp8", "bf16"] = Field(
        default="fp8", description="format of tokens sent to experts; they come back in BF16"
    )
    alltoall: Literal["auto", "normal", "low-latency"] = Field(
        default="auto",
        description="dispatch and combine kernels: normal (a copy for each node, SMs held) or "
        "low-latency (a message for each expert, no SM held); auto: low-latency in decode units",
    )
    comm_sms: Annotated[int, Field(ge=0)] = Field(
        default=20, description="SMs that normal dispatch and combine kernels hold while they run"
    )
    microbatches: Literal[1, 2] | None = Field(
        default=None,
        description="micro-batches of an iteration, the one computing while the other "
        "communicates; by default 2 with experts on several GPUs, else 1",
    )
    cuda_graphs: bool | None = Field(
        default=None,
        description="iterations are launched as captured graphs; by default in decode units only",
    )
    mtp: Mtp = Field(default=Mtp(), description="speculative decoding")
    max_rows: Annotated[int, Field(ge=1, le=1 << 16)] | None = Field(
        default=None,
        description="most sequences a DP rank decodes at once; by default what memory allows",
    )
    chunk_tokens: Annotated[int, Field(ge=1, le=1 << 22)] = Field(
        default=16384,
        description="most prompt tokens a DP rank processes in an iteration; longer prompts go in "
        "chunks (of a mixed unit: beside the decoding rows)",
    )
    reserved_gib: Annotated[float, Field(ge=0)] = Field(
        default=2.0,
        description="GPU memory a process takes besides weights, KV cache and buffers: CUDA "
        "context, captured graphs, allocator slack (GiB; a guess)",
    )


class Deployment(Section):
    """The units that serve: prefill and decode apart, or mixed units that do both."""

    prefill: UnitFields | None = Field(default=None, description="units that process prompts")
    decode: UnitFields | None = Field(default=None, description="units that generate tokens")
    mixed: UnitFields | None = Field(default=None, description="units that do both")
    balance: Literal["kv", "rows"] = Field(
        default="kv",
        description="what units and DP ranks that decode share evenly: KV tokens or rows",
    )
    preemption: Literal["recompute", "swap"] = Field(
        default="recompute",
        description="a row that finds the KV cache full: its prompt and answer so far are "
        "processed again, or its KV goes to host memory and back",
    )
    swap_bandwidth: Bandwidth = Field(
        default=25e9,
        description="swap: between a GPU and host memory, such as 25 GB/s (a guess: half of PCIe "
        "5.0 x16)",
    )


class Lengths(Section):
    """Tokens of a request's input or output: a log-normal law cut at both ends."""

    mean: Annotated[float, Field(ge=1, le=MAX_CONTEXT)] = Field(
        description="mean tokens", examples=[1000.0]
    )
    cv: Annotated[float, Field(ge=0, le=10)] = Field(
        default=1.0, description="standard deviation over mean (0: all alike)"
    )
    max: Tokens | None = Field(
        default=None, description="longest; by default 16 times the mean, within the context"
    )


class Traffic(Section):
    """What arrives."""

    rate: Rate | None = Field(
        default=None,
        description="requests a second, on average over what is simulated (of a day: at its "
        "busiest hour), such as 100/s; a trace has its own",
    )
    arrival: Literal["poisson", "bursty", "trace"] = Field(
        default="poisson",
        description="poisson: independent; bursty: gamma intervals; trace: from a file",
    )
    burstiness: Annotated[float, Field(ge=1, le=100)] = Field(
        default=4.0, description="bursty: squared coefficient of variation of intervals"
    )
    file: str | None = Field(
        default=None,
        description="trace: CSV file beside the scenario with columns time_s, input_tokens, "
        "output_tokens and, if it has one, prefix_hash",
    )
    speed: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=1.0, description="trace: how much faster than recorded it arrives"
    )
    input: Lengths = Field(
        default=Lengths(mean=2000.0), description="prompt tokens, cached ones included"
    )
    output: Lengths = Field(default=Lengths(mean=500.0), description="generated tokens")
    cached_share: Annotated[float, Field(ge=0, le=0.99)] = Field(
        default=0.0, description="share of the input tokens that hit a prefix cache"
    )
    by_hour: Annotated[tuple[Share, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        description="24 shares of the rate, one an hour of the day; by default the rate all day",
    )
    max_context: Tokens | None = Field(
        default=None, description="longest input and output together; by default the model's"
    )


class Slo(Section):
    """What users are promised; a share of requests that meet all of it is the SLO attainment."""

    ttft: Duration | None = Field(default=None, description="time to the first token, such as 2 s")
    tpot: Duration | None = Field(
        default=None, description="mean time between a request's output tokens, such as 50 ms"
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.9, description="share of requests that shall meet it"
    )


class PrefixCache(Section):
    """Where the KV cache of earlier prompts waits, and how fast it comes back."""

    tier: Literal["ssd", "ram"] = Field(default="ssd", description="what it is kept on")
    bandwidth: Bandwidth | None = Field(
        default=None,
        description="read bandwidth for one node; by default 20 GB/s (ssd) or 100 GB/s (ram), "
        "both guesses",
    )
    latency: Pause = Field(default=0.001, description="before the first byte, such as 1 ms")
    capacity: Capacity | None = Field(
        default=None, description="of one node, used with a trace's prefixes; default: endless"
    )


class Rebalance(Section):
    """Experts' popularity drifts, and EPLB places replicas anew."""

    every: Duration = Field(default=600.0, description="time between placements")
    drift: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="standard deviation (logits) by which popularity has moved from one "
        "placement to the next",
    )
    pause: Pause = Field(
        default=0.0, description="time a unit stands still while experts move to other GPUs"
    )


class NodeFailures(Section):
    """GPUs fail and take their unit with them until it has restarted."""

    mtbf_per_gpu_hours: Annotated[float, Field(gt=0)] = Field(
        default=50_000.0, description="mean time between failures of one GPU (Llama 3: 50,000 h)"
    )
    restart: Duration = Field(
        default=300.0, description="until a failed unit serves again, weights loaded"
    )


class PlanStep(Section):
    """Units from an hour of the day until the next step."""

    hour: Annotated[float, Field(ge=0, lt=24)] = Field(
        description="hour of the day, such as 8.5 for half past eight", examples=[0.0]
    )
    prefill: Degree | None = Field(default=None, description="prefill units; by default by load")
    decode: Degree | None = Field(default=None, description="decode units; by default by load")
    mixed: Degree | None = Field(default=None, description="mixed units; by default by load")


class Autoscale(Section):
    """Units by the time of day: as many as the hour's rate needs, or as planned."""

    headroom: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.1, description="capacity kept above the hour's load, as a share of it"
    )
    min_share: Share = Field(
        default=0.1, description="fewest units kept, as a share of those at the peak"
    )
    start: Duration = Field(default=300.0, description="from the decision to a unit that serves")
    plan: Annotated[tuple[PlanStep, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        description="units paid for by the time of day, whatever the load; those starting and "
        "emptying included",
    )


class Window(Section):
    """How much of the traffic is simulated."""

    duration: Duration = Field(default=120.0, description="simulated time after the warm-up")
    warmup: Pause = Field(default=60.0, description="simulated time before anything is measured")
    requests: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="stop after this many requests; by default by time alone"
    )
    day: bool = Field(
        default=False, description="simulate a window of each hour of the day, by traffic.by_hour"
    )


class IterationPoint(Section):
    """The iteration that a scenario without traffic looks at."""

    prefill_tokens: Annotated[int, Field(ge=0, le=1 << 22)] | None = Field(
        default=None, description="new prompt tokens a DP rank; by default chunk_tokens"
    )
    decode_rows: Annotated[int, Field(ge=0, le=1 << 16)] | None = Field(
        default=None, description="sequences decoding a DP rank; by default 128 or what fits"
    )
    context: Tokens = Field(
        default=4096,
        description="KV tokens a decoding sequence attends to; length of a prompt in prefill",
    )


class ServeRouting(Section):
    """Which experts tokens go to; serving always draws from the gate."""

    skew: Skew | None = Field(
        default=None,
        description="standard deviation of the experts' popularity in logits (0: all alike), or "
        "zipf:1.2; by default as uneven as DeepSeek's H800 trace",
    )
    draws: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=8, description="independent routing draws that layers cycle through"
    )
    stale: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="standard deviation (logits) by which popularity has moved since the replicas "
        "were placed",
    )
    prompt_spread: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="standard deviation, over its mean, of an expert's share between sequences, "
        "whose tokens are alike; batches of many sequences differ less (0: every token for itself; "
        "3: as SGLang's prefill units slow down with real prompts)",
    )


class ServeSimulate(Section):
    """How the simulation runs; the two bounds leave something out to see what is left."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        default=0, description="seed of every random draw"
    )
    engine: Literal["reference", "compiled"] = Field(
        default="compiled", description="both engines give the same timeline; compiled is faster"
    )
    compute: bool = Field(
        default=True, description="false: kernels take no time, a bound set by the network alone"
    )
    ideal_network: bool = Field(
        default=False,
        description="every copy of a token, its values alone, crosses the NIC at the link's "
        "bandwidth and without latency, as published bounds count",
    )


class ServeFields(Section):
    """`kind: serve`: a deployment, request by request, or one iteration of its units."""

    kind: Literal["serve"] = Field(description="what to simulate", examples=["serve"])
    model: str = Field(
        description="model: shipped name, or path of a Hugging Face config.json",
        examples=["deepseek-v3"],
    )
    topology: str = Field(
        description="cluster: shipped name, or path of a topology file", examples=["h800-2048"]
    )
    deployment: Deployment = Field(
        description="the units that serve", examples=[{"mixed": {"tp": 1}}]
    )
    traffic: Traffic | None = Field(
        default=None, description="what arrives; without it, one iteration of each unit"
    )
    iteration: IterationPoint = Field(
        default=IterationPoint(), description="the iteration looked at where there is no traffic"
    )
    slo: Slo = Field(default=Slo(), description="what users are promised")
    routing: ServeRouting = Field(default=ServeRouting(), description="expert routing")
    prefix_cache: PrefixCache = Field(
        default=PrefixCache(), description="where cached prefixes come from"
    )
    rebalance: Rebalance = Field(default=Rebalance(), description="drift and placement of experts")
    failures: NodeFailures | None = Field(
        default=None, description="failing GPUs; by default none fails"
    )
    autoscale: Autoscale | None = Field(
        default=None, description="units by the time of day; by default all serve all day"
    )
    window: Window = Field(default=Window(), description="how much of the traffic is simulated")
    simulate: ServeSimulate = Field(default=ServeSimulate(), description="how the simulation runs")
    price: Price = Field(default=Price(), description="money")
    size: SizeSpace = Field(default=SizeSpace(), description="what `simdeep size` chooses from")
