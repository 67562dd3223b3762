"""The whole model: embedding, layers, norm, head, and multi-token prediction where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simdeep.spec.model import Ffn
from simdeep.validate.transformer.attention import make_attention
from simdeep.validate.transformer.config import Config, read_config
from simdeep.validate.transformer.moe import Gate, make_ffn
from simdeep.validate.transformer.split import layers_of_stage
from simdeep.validate.transformer.stages import Stage

MTP_WEIGHT = 0.3
"""Of the MTP modules' mean loss in the loss (arXiv 2412.19437 sec 4.2, first 10 T tokens)."""


def build(source: Config | Mapping[str, Any] | str | Path, seed: int = 0) -> MoETransformer:
    """The model of a configuration (see `read_config`); equal seeds give equal weights."""
    config = source if isinstance(source, Config) else read_config(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MoETransformer(config)


class Block(nn.Module):  # type: ignore[misc]
    """One layer: attention and a feed-forward part, each behind a norm and beside a residual."""

    def __init__(self, config: Config, ffn: Ffn):
        super().__init__()
        hidden = config.model.hidden
        self.attention_norm = nn.RMSNorm(hidden, eps=config.eps)
        self.attention = make_attention(config)
        self.mlp_norm = nn.RMSNorm(hidden, eps=config.eps)
        self.mlp = make_ffn(config, ffn)

    def forward(self, x: Tensor) -> Tensor:
        """Input and output are [batch, tokens, hidden]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class MtpModule(nn.Module):  # type: ignore[misc]
    """Predicts one token further (arXiv 2412.19437 sec 2.2); shares embedding and head."""

    def __init__(self, config: Config, ffn: Ffn):
        super().__init__()
        hidden = config.model.hidden
        self.hidden_norm = nn.RMSNorm(hidden, eps=config.eps)
        self.token_norm = nn.RMSNorm(hidden, eps=config.eps)
        self.projection = nn.Linear(2 * hidden, hidden, bias=False)
        self.block = Block(config, ffn)
        self.norm = nn.RMSNorm(hidden, eps=config.eps)

    def forward(self, before: Tensor, tokens: Tensor) -> Tensor:
        """Hidden states from those `before` and the embedded next tokens, all of one shape."""
        both = torch.cat([self.hidden_norm(before), self.token_norm(tokens)], dim=-1)
        return self.block(self.projection(both))


class MoETransformer(nn.Module):  # type: ignore[misc]
    """A decoder-only language model with the sizes of a configuration, in float32."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        model = config.model
        self.embed = nn.Embedding(model.vocab, model.hidden)
        self.layers = nn.ModuleList(Block(config, layer.ffn) for layer in model.layers)
        self.norm = nn.RMSNorm(model.hidden, eps=config.eps)
        self.head = nn.Linear(model.hidden, model.vocab, bias=False)
        self.mtp = nn.ModuleList(MtpModule(config, layer.ffn) for layer in model.mtp)
        for module in self.modules():
            _initialise(module, config.init_std)
        if model.tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, tokens, vocabulary] of token ids [batch, tokens]."""
        return self.head(self.norm(self._hidden(tokens)))

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross entropy of predicting each next token of `tokens` [batch, tokens + 1].

        MTP modules predict the tokens after; what would lie beyond the end is not asked of them.
        """
        hidden = self._hidden(tokens[:, :-1])
        loss = cross_entropy(self.head(self.norm(hidden)), tokens[:, 1:])
        further = []
        for depth, module in enumerate(self.mtp, start=1):
            hidden = module(hidden[:, :-1], self.embed(tokens[:, depth:-1]))
            logits = self.head(module.norm(hidden))
            further.append(cross_entropy(logits, tokens[:, depth + 1 :]))
        return loss + MTP_WEIGHT * torch.stack(further).mean() if further else loss

    def _hidden(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return x

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates of all MoE layers, in order."""
        return tuple(module for module in self.modules() if isinstance(module, Gate))

    def update_biases(self, rate: float) -> None:
        """`Gate.update_bias` of every gate: once after each optimizer step."""
        for gate in self.gates:
            gate.update_bias(rate)

    def stage(self, index: int, n_stages: int) -> Stage:
        """Stage `index` of `n_stages` pipeline stages; it shares this model's parameters.

        Raises:
            InputError: if the layers cannot be split like that.
        """
        mine = layers_of_stage(self.config.model, index, n_stages)
        last = index == n_stages - 1
        return Stage(
            self.embed if index == 0 else None,
            [self.layers[i] for i in mine],
            nn.Sequential(self.norm, self.head) if last else None,
        )


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all tokens; logits [..., vocabulary], targets [...]."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def _initialise(module: nn.Module, std: float) -> None:
    """Matrices normal with this deviation, biases zero, norms one."""
    if isinstance(module, nn.Linear | nn.Embedding | Gate):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
