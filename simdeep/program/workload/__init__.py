"""Workload: every kernel of a training step with its FLOPs and bytes, and what activations cost.

kernel.py       the record and its classes         shape.py   what a rank sees, policies
ops.py          GEMMs, casts, norms from sizes     layer.py   one decoder layer, assembled
mla.py gqa.py attention.py   attention             ffn.py moe.py   feed-forward parts
edges.py        embedding, head, MTP input         optimizer.py    the step's end
activations.py  bytes kept until I and until W     trace_names.py  classes of measured kernels
"""

from simdeep.program.workload.activations import activation_bytes, kept_tensors
from simdeep.program.workload.edges import edge_activation_bytes, edge_kernels
from simdeep.program.workload.kernel import KeptBytes, Kernel, model_flops, total_flops
from simdeep.program.workload.layer import KernelTable, layer_kernels
from simdeep.program.workload.optimizer import optimizer_kernels
from simdeep.program.workload.shape import POLICIES, Shape, policies

__all__ = [
    "POLICIES",
    "KeptBytes",
    "Kernel",
    "KernelTable",
    "Shape",
    "activation_bytes",
    "edge_activation_bytes",
    "edge_kernels",
    "kept_tensors",
    "layer_kernels",
    "model_flops",
    "optimizer_kernels",
    "policies",
    "total_flops",
]
