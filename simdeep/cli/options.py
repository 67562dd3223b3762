"""Options that several commands share, and what they mean for a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario
    from simdeep.spec.serve import ServeScenario


class Engine(StrEnum):
    """The engines; both give the same timeline."""

    reference = "reference"
    compiled = "compiled"


ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the scenario, as in layout.pp=8; may be given several times.",
    ),
]
EngineOption = Annotated[
    Engine | None,
    typer.Option("--engine", help="Engine to run; both give the same timeline."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of tables.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for charts and files; made if need be."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")
]


@dataclass(frozen=True)
class Source:
    """Where scenarios come from: a file and the values changed on the command line."""

    path: str
    overrides: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, sets: Sequence[str] | None, engine: Engine | None = None) -> Source:
        """Read `--set` and `--engine`."""
        overrides = {}
        problems = []
        for text in sets or ():
            key, equals, value = text.partition("=")
            if equals and key.strip():
                overrides[key.strip()] = value
            else:
                message = "write a key, '=' and a value, as in layout.pp=8"
                problems.append(Problem(f"--set {text}", "", message))
        if problems:
            raise InputError(problems)
        if engine is not None:
            overrides["simulate.engine"] = engine.value
        return cls(path, overrides)

    def load_any(self) -> Scenario | ServeScenario:
        """The scenario, of whatever kind."""
        from simdeep.spec.scenario import load_scenario

        return load_scenario(self.path, self.overrides)

    def load(self, **changes: str) -> Scenario:
        """The scenario; `changes` are further values, with `__` for the dots of a key."""
        from simdeep.spec.scenario import load_training

        more = {key.replace("__", "."): value for key, value in changes.items()}
        return load_training(self.path, {**self.overrides, **more})


def words(text: str) -> tuple[str, ...]:
    """The parts of `a,b,c` without blanks around them; empty parts left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
