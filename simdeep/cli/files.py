"""The folder of `--out`: opened if one is asked for, and what was written said."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.cli.console import note

if TYPE_CHECKING:
    from simdeep.report.output import OutputFolder


def out_folder(
    out: Path | None, names: Sequence[str]
) -> AbstractContextManager[OutputFolder | None]:
    """The folder for these files, or None where `--out` was not given."""
    if out is None:
        return nullcontext(None)
    from simdeep.report.output import OutputFolder

    return OutputFolder(out, names)


def say_written(files: OutputFolder | None, quiet: bool) -> None:
    """A line on stderr about the files that are there now."""
    if files is not None and not quiet:
        note(f"Wrote {', '.join(files.written)} into {files.shown}.")
