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
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Tables to read instead of a schema.")
    ] = False,
) -> None:
    """Print the JSON Schema of a kind of file, for editors and checks, or its keys to read."""
    import json

    from simdeep.spec.reference import reference
    from simdeep.spec.schema import SCHEMAS

    if markdown:
        answer(reference(kind.value) + "\n")
        return
    answer(json.dumps(SCHEMAS[kind.value](), indent=2) + "\n")
