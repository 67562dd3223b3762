"""Models by name or file, and everything that can be asked of one.

`load_model` reads an unmodified Hugging Face `config.json`. The classes are in `arch`, the parsers
in `hfconfig`, the counts in `params` and `flops`; this module is where others import them from.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from simdeep.errors import InputError, Problem
from simdeep.spec.arch import Attention, DenseFfn, Ffn, Gqa, Layer, Mla, Model, MoeFfn
from simdeep.spec.changes import NO_CHANGES, Changes, described
from simdeep.spec.flops import TokenFlops, flops_per_token, kv_bytes_per_token, token_flops
from simdeep.spec.hfconfig import parse_model, read_model
from simdeep.spec.jsonio import load_json
from simdeep.spec.messages import UNKNOWN_KEY
from simdeep.spec.params import LayerParams, ParamCount, layer_params, params
from simdeep.spec.resources import nearest, resource_dir
from simdeep.spec.validate import set_value
from simdeep.spec.yamlio import join_key

__all__ = [
    "Attention",
    "DenseFfn",
    "Ffn",
    "Gqa",
    "Layer",
    "LayerParams",
    "Mla",
    "Model",
    "MoeFfn",
    "ParamCount",
    "TokenFlops",
    "find_config",
    "flops_per_token",
    "kv_bytes_per_token",
    "layer_params",
    "load_model",
    "model_catalogue",
    "params",
    "token_flops",
]

CONFIG_FILE = "config.json"


@cache
def model_catalogue() -> tuple[str, ...]:
    """Names of the shipped models, sorted."""
    return tuple(sorted(f.parent.name for f in resource_dir("models").glob(f"*/{CONFIG_FILE}")))


def load_model(
    name_or_path: str | Path, base: Path | None = None, changes: Changes = NO_CHANGES
) -> Model:
    """Load a model by catalogue name, by its `config.json`, or by the folder that holds one.

    A catalogue name wins over a file or folder of that name; paths are relative to `base`. The
    model's name is the catalogue's, else the folder's (of a `config.json`) or the file's.
    `changes` are values that differ from the file's, of keys that the file has.
    """
    config = find_config(name_or_path, base)
    is_standard = config.name == CONFIG_FILE
    name = (config.resolve().parent.name if is_standard else config.stem) or "model"
    return _changed_model(config, name, changes) if changes else parse_model(config, name)


def _changed_model(config: Path, name: str, changes: Changes) -> Model:
    document = load_json(config)
    data = document.data
    problems = []
    for key, value in changes.items():
        if not isinstance(data, dict) or key[0] not in data:
            near = nearest(str(key[0]), tuple(data) if isinstance(data, dict) else ())
            way_out = f"did you mean {near}?" if near else f"{config.name} has no such key"
            problems.append(Problem("", join_key(key), f"{UNKNOWN_KEY}; {way_out}"))
        elif problem := set_value(data, key, value):
            problems.append(Problem("", join_key(key), problem))
    if problems:
        raise InputError(problems)
    return read_model(document, described(name, changes))


def find_config(name_or_path: str | Path, base: Path | None = None) -> Path:
    """The `config.json` that `load_model` would read; what cannot be found is an `InputError`."""
    text = str(name_or_path)
    if text in model_catalogue():
        return resource_dir("models") / text / CONFIG_FILE
    return _config_path(text, Path(text) if base is None else base / text)


def _config_path(text: str, path: Path) -> Path:
    try:
        if text.strip() and path.is_dir():
            if (path / CONFIG_FILE).exists():
                return path / CONFIG_FILE
            raise InputError([Problem(str(path), "", f"is a folder without a {CONFIG_FILE}")])
        if text.strip() and path.exists():
            return path
    except (OSError, ValueError):  # name too long, NUL in the path, folder not readable
        pass
    names = model_catalogue()
    near = nearest(text, names)
    what = "no such file" if "/" in text or text.endswith(".json") else "no shipped model, no file"
    way_out = f"did you mean {near!r}?" if near else f"shipped: {', '.join(names)}"
    raise InputError([Problem("", "", f"model {text!r}: {what}; {way_out}")])
