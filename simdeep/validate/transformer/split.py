"""Which layers a pipeline stage has, and when a model cannot be split; knows nothing of torch."""

from __future__ import annotations

from collections.abc import Iterable

from simdeep.errors import InputError, Problem
from simdeep.spec.model import Model


def layers_of_stage(model: Model, index: int, n_stages: int) -> range:
    """Indices of a stage's layers; InputError if the model cannot be split like that."""
    problems = stage_problems(model, (n_stages,))
    if problems:
        raise InputError(problems)
    if not 0 <= index < n_stages:
        raise ValueError(f"stage {index} of {n_stages}")
    each = model.n_layers // n_stages
    return range(index * each, (index + 1) * each)


def stage_problems(model: Model, numbers: Iterable[int]) -> list[Problem]:
    """What keeps a model from being split into such numbers of stages, each number once."""
    texts = (_problem(model, n) for n in dict.fromkeys(numbers))
    return [Problem(f"model {model.name}", "", text) for text in texts if text]


def _problem(model: Model, n: int) -> str:
    layers = model.n_layers
    if n < 1:
        return f"{n} stages, must be at least 1"
    if n > layers:
        return f"{n} stages, must be at most its {layers} layers"
    if layers % n:
        below = max(k for k in range(1, n) if layers % k == 0)
        above = min(k for k in range(n, layers + 1) if layers % k == 0)
        return f"{layers} layers do not split into {n} equal stages; {below} or {above} stages do"
    if n > 1 and model.mtp:
        return (
            "its MTP modules need the embedding on the last stage: set num_nextn_predict_layers=0"
        )
    if n > 1 and model.tied:
        return "first and last stage would share one table: set tie_word_embeddings=false"
    return ""
