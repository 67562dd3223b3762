"""A model for `simdeep show model`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from simdeep.report.summary import short

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from simdeep.spec.arch import Attention, Ffn
    from simdeep.spec.model import Model

SEQ_LEN = 4096
"""Tokens of a sequence that FLOPs per token are given for."""

KV_BYTES = 2
"""Bytes of a cached value: BF16."""


def model_json(model: Model) -> dict[str, Any]:
    """A model as one object: architecture, parameters, FLOPs."""
    from simdeep.spec.flops import flops_per_token, kv_bytes_per_token
    from simdeep.spec.params import params

    count = params(model)
    return {
        "name": model.name,
        "kind": model.kind,
        "architecture": dataclasses.asdict(model),
        "params": dataclasses.asdict(count),
        "seq_len": SEQ_LEN,
        "train_flops_per_token": flops_per_token(model, SEQ_LEN, causal=False),
        "train_flops_per_token_causal": flops_per_token(model, SEQ_LEN, causal=True),
        "kv_bytes_per_token_bf16": kv_bytes_per_token(model, KV_BYTES),
    }


def model_tables(model: Model) -> Iterator[RenderableType]:
    """A model for a console."""
    from rich.text import Text

    from simdeep.report.tables import titled
    from simdeep.spec.params import params

    count = params(model)
    yield Text(
        f"{model.name} has {short(count.total)} parameters, of which a token uses "
        f"{short(count.active)}, in {model.n_layers} layers.\n"
    )
    yield from titled("Architecture", _architecture(model))
    yield from titled("Parameters", _parameters(model))
    yield from titled(f"Per token, sequences of {SEQ_LEN:,}", _per_token(model))


def _architecture(model: Model) -> Table:
    from simdeep.report.tables import grid

    table = grid("part", "what")
    table.add_row("hidden size", f"{model.hidden:,}")
    table.add_row("vocabulary", f"{model.vocab:,}" + (", tied head" if model.tied else ""))
    table.add_row("attention", _fields(model.attention))
    layers = [(layer.index, layer.ffn) for layer in model.layers]
    for ffn, run in groupby(layers, key=lambda item: item[1]):
        numbers = [index for index, _ in run]
        span = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
        table.add_row(f"feed-forward of layers {span}", _fields(ffn))
    if model.mtp:
        table.add_row("multi-token prediction", f"{model.mtp_layers} module(s)")
    return table


def _fields(part: Attention | Ffn) -> str:
    """A frozen record as `Mla: heads 128, ...`, without what is off."""
    values = dataclasses.asdict(part).items()
    shown = [f"{k.replace('_', ' ')} {v}" for k, v in values if v not in (False, None)]
    return f"{type(part).__name__}: {', '.join(shown)}"


def _parameters(model: Model) -> Table:
    from simdeep.report.tables import grid
    from simdeep.spec.params import params

    count = params(model)
    table = grid("part", "parameters>", "of all>")
    layers = count.per_layer
    rows = {
        "embedding": count.embedding,
        "attention": sum(layer.attn for layer in layers),
        "dense feed-forward": sum(layer.dense for layer in layers),
        "routed experts": sum(layer.routed for layer in layers),
        "shared experts": sum(layer.shared for layer in layers),
        "routers": sum(layer.router for layer in layers),
        "norms": sum(layer.norm for layer in layers) + count.final_norm,
        "head": count.head,
    }
    for name, number in rows.items():
        if number:
            table.add_row(name, f"{number:,}", f"{number / count.total:.2%}")
    table.add_section()
    table.add_row("total", f"{count.total:,}", "100.00%")
    table.add_row("active for a token", f"{count.active:,}", f"{count.active / count.total:.2%}")
    if count.mtp:
        table.add_row("MTP modules, apart", f"{count.mtp:,}", "")
    return table


def _per_token(model: Model) -> Table:
    from simdeep.report.tables import grid
    from simdeep.spec.flops import flops_per_token, kv_bytes_per_token

    table = grid("figure", "value>", "note")
    for causal, name in ((True, "causal"), (False, "non-causal")):
        flops = flops_per_token(model, SEQ_LEN, causal=causal)
        note = "forward and backward, MTP apart" if model.mtp else "forward and backward"
        table.add_row(f"training FLOPs, {name}", f"{flops / 1e9:,.1f} GFLOP", note)
    cache = kv_bytes_per_token(model, KV_BYTES)
    table.add_row("KV cache", f"{cache / 1024:,.1f} KiB", "BF16, all layers")
    return table
