"""Two traces side by side: per phase, per kind and in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simdeep.traces.measure import Measures, measure
from simdeep.traces.trace import COMMUNICATION, COMPUTE, Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two traces and what they add up to.

    `phases` has a row for each phase of either: `kind`, `phase`, and for both traces (suffix `_a`,
    `_b`) `count` and `mean_ns`: of compute, from the first kernel of an occurrence of the phase to
    its last; of communication, the time in which bytes move. `ratio` is b over a - 1, NaN where
    one has none.
    """

    a: Trace
    b: Trace
    measures_a: Measures
    measures_b: Measures
    phases: pd.DataFrame


def compare(a: Trace, b: Trace) -> Comparison:
    """Compare two traces phase by phase."""
    import pandas as pd

    left, right = phases(a), phases(b)
    left, right = _same_words(left, right), _same_words(right, left)
    table = left.merge(right, on=["kind", "phase"], how="outer", suffixes=("_a", "_b"), sort=False)
    for column in ("count_a", "count_b"):
        table[column] = table[column].fillna(0).astype(np.int64)
    first = table[["first_a", "first_b"]].min(axis=1)
    table["ratio"] = table["mean_ns_b"] / table["mean_ns_a"] - 1
    order = np.lexsort((first.to_numpy(), (table["kind"] != COMPUTE).to_numpy()))
    table = table.iloc[order].reset_index(drop=True).drop(columns=["first_a", "first_b"])
    assert isinstance(table, pd.DataFrame)
    return Comparison(a, b, measure(a), measure(b), table)


def phases(trace: Trace) -> pd.DataFrame:
    """Length of each phase: columns `kind`, `phase`, `count`, `mean_ns`, `first` (its start)."""
    spans = trace.spans
    own = spans[spans["kind"].isin((COMPUTE, COMMUNICATION)) & (spans["phase"] != "")]
    own = own.assign(moving=own["end_ns"] - own["start_ns"] - own["setup_ns"])
    keys = ["kind", "phase", "rank", "layer", "microbatch"]
    each = own.groupby(keys, sort=False).agg(
        start=("start_ns", "min"), end=("end_ns", "max"), moving=("moving", "sum")
    )
    each = each.reset_index()
    lasted = (each["end"] - each["start"]).where(each["kind"] == COMPUTE, each["moving"])
    return (
        each.assign(lasted=lasted)
        .groupby(["kind", "phase"], sort=False)
        .agg(count=("lasted", "size"), mean_ns=("lasted", "mean"), first=("start", "min"))
        .reset_index()
    )


def _same_words(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Call an input gradient B where the other trace does (and has W apart from it)."""
    theirs = set(other["phase"])
    if any(name.endswith("(I)") for name in theirs):
        return table
    renamed = table["phase"].map(
        lambda name: (
            f"{name[:-3]}(B)" if name.endswith("(I)") and f"{name[:-3]}(B)" in theirs else name
        )
    )
    return table.assign(phase=renamed)
