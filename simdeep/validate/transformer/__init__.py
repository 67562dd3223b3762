"""A small real transformer in torch, with experts, of any Hugging Face `config.json`.

`build` imports torch; the commands ask `require_torch` first. `config` and `split` do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdeep.validate.transformer.config import Config, read_config
    from simdeep.validate.transformer.model import Block, MoETransformer, build
    from simdeep.validate.transformer.split import layers_of_stage, stage_problems
    from simdeep.validate.transformer.stages import Stage
    from simdeep.validate.transformer.text import Batches, load_text
    from simdeep.validate.transformer.training import train

__all__ = [
    "Batches",
    "Block",
    "Config",
    "MoETransformer",
    "Stage",
    "build",
    "layers_of_stage",
    "load_text",
    "read_config",
    "stage_problems",
    "train",
]

_HOMES = {
    "model": ("Block", "MoETransformer", "build"),
    "config": ("Config", "read_config"),
    "split": ("layers_of_stage", "stage_problems"),
    "stages": ("Stage",),
    "text": ("Batches", "load_text"),
    "training": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Names are looked up in their modules when asked for: reading a config needs no torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME_OF[name]}")
    return getattr(module, name)
