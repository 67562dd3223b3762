"""The spans table as a file: CSV, or parquet where pyarrow is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".parquet")


def write_spans(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a spans table (`analysis.frame.spans_frame`); the suffix chooses the format.

    Args:
        frame: the table.
        path: ends in `.csv` or `.parquet`.

    Raises:
        InputError: another suffix, or parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, lineterminator="\n")
    elif path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401 - only asks whether it is there
        except ImportError:
            message = "parquet needs pyarrow: pip install 'simdeep[parquet]', or write .csv"
            raise InputError([Problem(str(path), "", message)]) from None
        frame.to_parquet(path, engine="pyarrow", index=False)
    else:
        rule = f"a timeline is written as {' or '.join(FORMATS)}, not {path.suffix or 'no suffix'}"
        raise InputError([Problem(str(path), "", rule)])
    return path
