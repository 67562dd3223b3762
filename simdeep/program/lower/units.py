"""What a pipeline stage computes, in forward order: embedding, layers, head, MTP module."""

from __future__ import annotations

from dataclasses import dataclass

from simdeep.spec.layout import StageSpec
from simdeep.spec.model import Model


@dataclass(frozen=True, slots=True)
class Unit:
    """A layer, or a piece at the edge of the model that takes a layer's place in the order.

    `attn` and `mlp` name the component that computes in that half ("" for none): a layer has
    both, the embedding and the MTP input projection only the first, the head only the second.
    `layer` indexes the layers of the model and then of its MTP modules,
    -1 for edges. `moe` says that dispatch and combine stand around the mlp.
    """

    attn: str
    mlp: str
    layer: int
    moe: bool

    @property
    def component(self) -> str:
        """Name of an edge unit's only component, "layer" otherwise."""
        return "layer" if self.attn and self.mlp else self.attn or self.mlp


EMBED = Unit("embed", "", -1, False)
HEAD = Unit("", "head", -1, False)
MTP_IN = Unit("mtp_in", "", -1, False)


def layer_unit(model: Model, index: int) -> Unit:
    """The unit of layer `index`; MTP modules follow the model's own."""
    layer = (model.layers + model.mtp)[index]
    return Unit("attn", "mlp", index, layer.is_moe)


def stage_units(model: Model, stage: StageSpec) -> tuple[Unit, ...]:
    """Units of a stage in forward order.

    The MTP module (arXiv 2412.19437 sec. 2.2) follows the main head: input projection of the last
    hidden state with the next token's embedding, one layer, and the shared head once more.
    """
    units: list[Unit] = [EMBED] if stage.embedding else []
    units += [layer_unit(model, index) for index in stage.layers]
    if stage.head:
        units.append(HEAD)
    if stage.mtp:
        for depth in range(model.mtp_layers):
            units += [MTP_IN, layer_unit(model, len(model.layers) + depth), HEAD]
    return tuple(units)
