"""Batches of the shipped text, byte by byte."""

from __future__ import annotations

from importlib import resources

import torch
from torch import Tensor

from simdeep.errors import InputError, Problem
from simdeep.spec.model import Model

_FILE = "as-you-like-it.txt"


def load_text() -> Tensor:
    """The shipped text as token ids: its bytes, int64."""
    data = resources.files("simdeep").joinpath("data", "text", _FILE).read_bytes()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


class Batches:
    """Draws pieces of the text; equal seeds draw the same ones."""

    def __init__(self, model: Model, tokens: int, seed: int = 0):
        """Pieces of `tokens` tokens and the one after; the model must know every byte."""
        if model.vocab < 256:
            message = f"vocab_size {model.vocab}, must be 256 or more: the text is read by bytes"
            raise InputError([Problem(f"model {model.name}", "", message)])
        self._text, self._tokens = load_text(), tokens
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, sequences: int) -> Tensor:
        """Token ids [sequences, tokens + 1]."""
        last = len(self._text) - self._tokens
        first = torch.randint(last, (sequences, 1), generator=self._generator)
        return self._text[first + torch.arange(self._tokens + 1)]
