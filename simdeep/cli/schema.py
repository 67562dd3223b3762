"""`simdeep schema`: the JSON Schemas of the files a user writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from simdeep.cli.console import answer
from simdeep.cli.faults import guarded


class FileKind(StrEnum):
    """Kinds of files with a schema."""

    scenario = "scenario"
    topology = "topology"
    gpu = "gpu"


@guarded
def schema(
    kind: Annotated[FileKind, typer.Argument(help="Kind of file.")] = FileKind.scenario,
) -> None:
    """Print the JSON Schema of a kind of file, for editors and checks."""
    import json

    from simdeep.spec.schema import SCHEMAS

    answer(json.dumps(SCHEMAS[kind.value](), indent=2) + "\n")
