"""A pipeline stage of the model: equally many layers each, embedding first, norm and head last."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Stage(nn.Module):  # type: ignore[misc]
    """Consecutive layers, with the embedding on the first stage and norm and head on the last."""

    def __init__(
        self, embed: nn.Module | None, layers: Iterable[nn.Module], head: nn.Module | None
    ):
        super().__init__()
        self.embed = embed
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Token ids or hidden states in, hidden states or logits out."""
        if self.embed is not None:
            x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return x if self.head is None else self.head(x)
