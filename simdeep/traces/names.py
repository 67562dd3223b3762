"""What kind of work a GPU kernel of a measured trace does, by its name."""

from __future__ import annotations

import re
from typing import Final

from simdeep.traces.trace import COMMUNICATION, COMPUTE, MEMORY, WAIT

_KINDS: Final = (
    # DeepEP's notifications hold a barrier over all ranks: their time is waiting, not bytes.
    (WAIT, re.compile(r"notify|barrier|get_dispatch_layout|_clean_")),
    (
        COMMUNICATION,
        re.compile(
            r"^nccl|ncclDevKernel|ncclKernel|nvshmem|deep_?ep|^ep_|all_?reduce|all_?gather"
            r"|reduce_?scatter|all_?to_?all|intranode|internode|low_?latency|\b(dispatch|combine)\b",
            re.IGNORECASE,
        ),
    ),
    (MEMORY, re.compile(r"^(Memcpy|Memset)|^gpu_mem(cpy|set)", re.IGNORECASE)),
)

_COMPONENTS: Final = (
    ("attention", r"flash|fmha|attention|sdpa|mla_"),
    ("grouped_gemm", r"grouped_?gemm|group_gemm|moe_gemm|m_grouped"),
    ("gemm", r"gemm|cutlass|cublas|wgmma|matmul|nvjet|sm90_xmma|ampere_.*tn|s\d+\d*gemm"),
    ("norm", r"norm"),
    ("rope", r"rope|rotary"),
    ("activation", r"swiglu|silu|gelu|act_and_mul"),
    ("cast", r"cast|quant"),
    ("gate", r"topk|top_k|scatter_gather|gate"),
    ("softmax", r"softmax|cross_entropy|nll_loss"),
    ("optimizer", r"adam|multi_tensor_apply|optimizer"),
    ("reduce", r"reduce"),
    ("copy", r"copy|transpose|cat_|concat|memcpy|memset"),
    ("elementwise", r"elementwise|vectorized|add|mul|fill"),
)
_PATTERNS: Final = tuple((name, re.compile(text, re.IGNORECASE)) for name, text in _COMPONENTS)


def kind_of(kernel: str) -> str:
    """`compute`, `communication`, `memory` or `wait`."""
    return next((kind for kind, pattern in _KINDS if pattern.search(kernel)), COMPUTE)


def component_of(kernel: str) -> str:
    """A coarse class of kernels: gemm, attention, norm, ...; `other` for an unknown name."""
    return next((name for name, pattern in _PATTERNS if pattern.search(kernel)), "other")
