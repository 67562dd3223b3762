"""Launch commands of a deployment for SGLang, vLLM and Dynamo.

Every flag stands in the documentation of these revisions: sgl-project/sglang@004813e
docs/advanced_features/server_arguments.md; vllm-project/vllm@0170256
docs/serving/expert_parallel_deployment.md (and, for `--all2all-backend`, `--enable-dbo` and
`--speculative-config`, vLLM's engine arguments of 2026); ai-dynamo/dynamo@119290c
docs/backends/sglang/dsr1-wideep-h100.md. Addresses are shell variables. What a server cannot be
told is said in a comment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

from simdeep.serving.deployment import Unit
from simdeep.serving.sizing.front import Deployment

Server = Literal["sglang", "vllm", "dynamo"]
Flags = list[str]

HUB = {
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B-Instruct",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
}
"""Repositories of shipped models; another is given as $MODEL."""

FP8_CHECKPOINTS = frozenset({"deepseek-v3"})
"""Models that are published in FP8: servers find the format in the checkpoint."""

SGLANG_KV = {"fp8": "fp8_e4m3", "fp4": "fp4_e2m1"}


def launch_commands(deployment: Deployment, server: str) -> str:
    """Shell text that starts one unit of each role; a comment says how many of each to start."""
    made: dict[str, Callable[[Deployment], list[str]]] = {
        "sglang": _sglang,
        "vllm": _vllm,
        "dynamo": _dynamo,
    }
    model = HUB.get(deployment.scenario.model.name.lower(), "")
    head = [
        "# Run once on every node of a unit. NODE_RANK counts the unit's nodes from 0, HEAD is the",
        "# address of its first node.",
        f"MODEL={model}" if model else "# Set MODEL to the model's path or repository.",
    ]
    return "\n".join([*head, *made[server](deployment)]) + "\n"


def _title(unit: Unit, count: int) -> str:
    nodes = f"{unit.nodes} node{'s' if unit.nodes > 1 else ''}"
    part = f"{unit.gpus} GPU{'s' if unit.gpus > 1 else ''} of a node"
    what = nodes if unit.gpus >= unit.topology.gpus_per_node else part
    return f"# {unit.role}: {count} unit{'s' if count > 1 else ''}, each of {what}"


def _command(start: str, flags: Flags) -> str:
    return " \\\n  ".join([start, *flags])


def _units(deployment: Deployment) -> list[tuple[Unit, int]]:
    return [(deployment.parts[role].design.unit, n) for role, n in deployment.units.items()]


def _quantizes(unit: Unit) -> bool:
    """Whether the server turns a checkpoint of another format into FP8."""
    return unit.weights == "fp8" and unit.model.name.lower() not in FP8_CHECKPOINTS


def _sglang_flags(unit: Unit) -> Flags:
    flags = ["--model-path $MODEL", f"--tp-size {unit.gpus}"]
    if unit.dp > 1:
        flags += [f"--dp-size {unit.dp}", "--enable-dp-attention", "--enable-dp-lm-head"]
    if unit.nodes > 1:
        flags += [f"--nnodes {unit.nodes}", "--node-rank $NODE_RANK"]
        flags += ["--dist-init-addr $HEAD:20000"]
    if unit.moe is not None and unit.ep > 1:
        mode = "low_latency" if unit.mode == "low-latency" else "normal"
        if unit.dp > 1:
            # Dense layers whole on every GPU, as they are simulated.
            flags.append("--moe-dense-tp-size 1")
        flags += [f"--ep-size {unit.ep}", "--moe-a2a-backend deepep", f"--deepep-mode {mode}"]
        if unit.redundant:
            flags += [f"--ep-num-redundant-experts {unit.redundant}", "--enable-eplb"]
        if unit.microbatches == 2:
            flags.append("--enable-two-batch-overlap")
    if unit.kv in SGLANG_KV:
        flags.append(f"--kv-cache-dtype {SGLANG_KV[unit.kv]}")
    if unit.role != "decode":
        # SGLang divides the chunk of a server among its DP ranks.
        flags.append(f"--chunked-prefill-size {unit.chunk_tokens * unit.dp}")
    if unit.role != "prefill" and unit.max_rows:
        flags.append(f"--max-running-requests {unit.max_rows * unit.dp}")
        if unit.cuda_graphs:
            flags.append(f"--cuda-graph-max-bs {unit.max_rows}")
    if not unit.cuda_graphs:
        flags.append("--disable-cuda-graph")
    if unit.role != "prefill" and unit.mtp_tokens:
        flags += ["--speculative-algorithm EAGLE", f"--speculative-num-steps {unit.mtp_tokens}"]
        flags += ["--speculative-eagle-topk 1"]
        flags += [f"--speculative-num-draft-tokens {unit.mtp_tokens + 1}"]
    if _quantizes(unit):
        flags.append("--quantization fp8")
    return flags


def _sglang(deployment: Deployment) -> list[str]:
    lines = []
    for unit, count in _units(deployment):
        flags = [*_sglang_flags(unit), "--host 0.0.0.0", "--port 30000"]
        if unit.role != "mixed":
            flags.append(f"--disaggregation-mode {unit.role}")
            flags += ["--disaggregation-transfer-backend mooncake"]
        lines += ["", _title(unit, count)]
        lines += [*_says_not(unit), _command("python -m sglang.launch_server", flags)]
    flags = ["--pd-disaggregation"] if deployment.way == "disaggregated" else []
    if flags:
        flags += ["--prefill http://$PREFILL:30000", "--decode http://$DECODE:30000"]
    else:
        flags = ["--worker-urls http://$WORKER:30000"]
    title = "# router: repeat --prefill and --decode (or the addresses) for every unit"
    router = _command("python -m sglang_router.launch_router", [*flags, "--port 8000"])
    return [*lines, "", title, router]


def _says_not(unit: Unit) -> Flags:
    """What the command cannot say."""
    found = []
    if unit.shared == "routed":
        found.append("# Shared experts dealt like routed ones have no flag: they are replicated.")
    if unit.moe is not None and unit.ep not in (1, unit.gpus):
        found.append(
            f"# EP{unit.ep} below the unit's {unit.gpus} GPUs: check the server allows it."
        )
    return found


def _vllm_flags(unit: Unit) -> Flags:
    flags = [f"--tensor-parallel-size {unit.tp}"]
    if unit.dp > 1:
        flags.append(f"--data-parallel-size {unit.dp}")
    if unit.nodes > 1:
        local = unit.topology.gpus_per_node // unit.tp
        flags += [f"--data-parallel-size-local {local}"]
        flags += [f"--data-parallel-start-rank $((NODE_RANK * {local}))"]
        flags += ["--data-parallel-address $HEAD", "--data-parallel-rpc-port 13345"]
        flags += ["$([ $NODE_RANK -gt 0 ] && echo --headless)"]
    if unit.moe is not None and unit.ep > 1:
        kernel = "low_latency" if unit.mode == "low-latency" else "high_throughput"
        flags += ["--enable-expert-parallel", f"--all2all-backend deepep_{kernel}"]
        if unit.redundant:
            config = json.dumps({"num_redundant_experts": unit.redundant})
            flags += ["--enable-eplb", f"--eplb-config '{config}'"]
        if unit.microbatches == 2:
            flags.append("--enable-dbo")
    if unit.kv == "fp8":
        flags.append("--kv-cache-dtype fp8")
    if unit.role != "decode":
        flags.append(f"--max-num-batched-tokens {unit.chunk_tokens}")
    if unit.role != "prefill" and unit.max_rows:
        flags.append(f"--max-num-seqs {unit.max_rows}")
    if not unit.cuda_graphs:
        flags.append("--enforce-eager")
    if unit.role != "prefill" and unit.mtp_tokens:
        config = json.dumps({"method": "mtp", "num_speculative_tokens": unit.mtp_tokens})
        flags.append(f"--speculative-config '{config}'")
    if _quantizes(unit):
        flags.append("--quantization fp8")
    if unit.role != "mixed":
        config = json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})
        flags.append(f"--kv-transfer-config '{config}'")
    return flags


def _vllm(deployment: Deployment) -> list[str]:
    lines = []
    for unit, count in _units(deployment):
        lines += ["", _title(unit, count), *_says_not(unit)]
        lines.append(_command("vllm serve $MODEL", [*_vllm_flags(unit), "--port 8100"]))
    if deployment.way == "disaggregated":
        lines += [
            "",
            "# Put a proxy before both that sends a prompt to a prefill unit first, such as",
        ]
        lines += ["# vLLM's tests/v1/kv_connector/nixl_integration/toy_proxy_server.py or llm-d."]
    return lines


def _dynamo(deployment: Deployment) -> list[str]:
    front = "python3 -m dynamo.frontend --http-port 8000"
    lines = ["", "# frontend and router: once; etcd and NATS must run", front]
    for unit, count in _units(deployment):
        flags = _sglang_flags(unit)
        if unit.role != "mixed":
            flags.append(f"--disaggregation-mode {unit.role}")
            flags += ["--disaggregation-transfer-backend nixl"]
        lines += ["", _title(unit, count)]
        lines += [*_says_not(unit), _command("python3 -m dynamo.sglang", flags)]
    return lines
