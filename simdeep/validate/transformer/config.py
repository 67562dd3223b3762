"""What the model reads of a `config.json`: its shape through `simdeep.spec`, and a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simdeep.errors import InputError, Problem
from simdeep.spec.fields import Fields
from simdeep.spec.hfconfig import read_model
from simdeep.spec.jsonio import load_json
from simdeep.spec.model import Model, find_config
from simdeep.spec.yamlio import Document


@dataclass(frozen=True, slots=True)
class Config:
    """A model's shape and what else its forward pass needs.

    `normalise_topk`: the weights of a token's experts are divided by their sum; `init_std` is the
    standard deviation of all matrices at the start.
    """

    model: Model
    rope_theta: float
    eps: float
    normalise_topk: bool
    init_std: float


def read_config(
    source: Mapping[str, Any] | str | Path, changes: Mapping[str, Any] | None = None
) -> Config:
    """Read a configuration.

    Args:
        source: the keys of a `config.json`, or a catalogue name, file or folder.
        changes: keys to use instead of those in the file, such as `num_hidden_layers`.

    Raises:
        InputError: with every problem found; also for a model that is not a decoder with RoPE and
            RMSNorm.
    """
    if isinstance(source, Mapping):
        doc = Document(dict(source), Path("config"), {(): 1})
        name = str(source.get("model_type", "model"))
    else:
        path = find_config(source)
        doc, name = load_json(path), path.resolve().parent.name
    if changes and isinstance(doc.data, dict):
        doc = Document({**doc.data, **changes}, doc.path, doc.lines)
    model = read_model(doc, name)
    if model.norm != "rmsnorm" or model.positions:
        message = f"{model.architecture} has LayerNorm and learned positions; "
        message += "the model that is run has RMSNorm and rotary positions"
        raise InputError([Problem(str(doc.path), "architectures", message)])
    f = Fields(doc)
    config = Config(
        model=model,
        rope_theta=f.number("rope_theta", default=10_000.0),
        eps=f.number("rms_norm_eps", default=1e-6),
        normalise_topk=f.flag("norm_topk_prob", default=True),
        init_std=f.number("initializer_range", default=0.02),
    )
    if f.problems:
        raise InputError(f.problems)
    return config
