"""Words for the parts of a step and the kinds of transfers, as a reader knows them."""

from __future__ import annotations

from simdeep.report.style import PARTS

_ACTIONS = {"F": "forward", "I": "input gradient", "W": "weight gradient"}
_COMPONENTS = {
    "attn": "attention",
    "mlp": "MLP and experts",
    "head": "output head and loss",
    "embed": "embedding",
    "mtp_in": "input of the MTP module",
}
_TRANSFERS = {
    "p2p": "pipeline transfer",
    "grad_sync": "gradient reduction",
    "grad_norm": "norm of the gradients",
    "param_sync": "parameter gathering",
    "tp": "tensor parallel",
    "cp": "context parallel",
    "fsdp": "sharding traffic",
}


def part_name(part: str) -> str:
    """`computing.I.attn` as "input gradient, attention"; other parts as in the legends."""
    group, _, rest = part.partition(".")
    if group == "computing" and "." in rest:
        action, _, component = rest.partition(".")
        component = _COMPONENTS.get(component, component.replace("_", " "))
        return f"{_ACTIONS.get(action, action)}, {component}"
    look = PARTS.get(part)
    return look.label if look else part.replace("_", " ").replace(".", ": ")


def transfer_name(kind: str) -> str:
    """`p2p` as "pipeline transfer", and so on."""
    return _TRANSFERS.get(kind, kind.replace("_", " "))
