"""`simdeep alltoall`: an expert dispatch and combine on a cluster, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import JsonOption, OutOption, QuietOption, SetOption, Source
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.network import Flags


class ModeChoice(StrEnum):
    """Kinds of kernels."""

    normal = "normal"
    low_latency = "low-latency"


class EcmpChoice(StrEnum):
    """How flows choose among equal ways."""

    static = "static"
    hashed = "hashed"
    adaptive = "adaptive"


@guarded
def alltoall(
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCENARIO]",
            help="A scenario of kind alltoall, or a training scenario, whose dispatch is taken.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Whose experts; default: deepseek-v3.")
    ] = None,
    topology: Annotated[
        str | None, typer.Option("--topology", help="Cluster; default: h800-2048.")
    ] = None,
    ep: Annotated[int | None, typer.Option("--ep", help="GPUs of the group; default: 64.")] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", help="Tokens each GPU sends; default: 4096.")
    ] = None,
    routing: Annotated[
        str | None,
        typer.Option(
            "--routing",
            metavar="uniform|zipf:1.2|0.072|FILE",
            help="Popularity of experts (a number: standard deviation in logits), or a trace.",
        ),
    ] = None,
    max_nodes: Annotated[
        int | None, typer.Option("--max-nodes", help="Nodes a token may use; default: the gate's.")
    ] = None,
    comm_sms: Annotated[
        int | None, typer.Option("--comm-sms", help="SMs that copy tokens; default: 20.")
    ] = None,
    mode: Annotated[ModeChoice | None, typer.Option("--mode", help="Kernels to use.")] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            "--placement",
            metavar="contiguous|eplb|search|FILE",
            help="Where experts are; a file lists the experts of each rank.",
        ),
    ] = None,
    redundant: Annotated[
        int | None, typer.Option("--redundant", help="Replicas placed beside the experts.")
    ] = None,
    ecmp: Annotated[
        EcmpChoice | None, typer.Option("--ecmp", help="How flows choose among equal ways.")
    ] = None,
    node_stride: Annotated[
        int | None, typer.Option("--node-stride", help="Take every so-many-th node of the cluster.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option("--draws", help="Routing draws, or dispatches of a trace.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of routing and routes.")] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Simulate one expert dispatch and combine: routed tokens, kernels, ports, fabric.

    Flags change what the scenario says; without a scenario they change the defaults.
    """
    from simdeep.network import DIRECTIONS, Flags, prepare, read_setting, run_direction
    from simdeep.report.alltoall_files import FILES, write_alltoall
    from simdeep.report.alltoall_json import alltoall_json
    from simdeep.report.alltoall_tables import alltoall_tables
    from simdeep.report.result_json import to_json

    flags = Flags(
        model=model,
        topology=topology,
        ep=ep,
        tokens=tokens,
        routing=routing,
        max_nodes=max_nodes,
        comm_sms=comm_sms,
        mode=None if mode is None else mode.value,
        placement=placement,
        redundant=redundant,
        ecmp=None if ecmp is None else ecmp.value,
        node_stride=node_stride,
        draws=draws,
        seed=seed,
    )
    overrides = Source.of(scenario or "", sets).overrides
    folder = out_folder(out, FILES)
    with _flagged(scenario, flags), progress(quiet) as bar:
        setting = read_setting(scenario, overrides, flags)
        with folder as files:
            bar.stage("routing tokens")
            routed = prepare(setting)
            outcomes = []
            for direction in DIRECTIONS:
                bar.stage(f"simulating the {direction}")
                outcomes.append(run_direction(setting, routed, direction))
            document = alltoall_json(outcomes)
            if files is not None:
                document = write_alltoall(files, outcomes, document, bar.stage)
    say_written(files, quiet)
    answer(to_json(document) if as_json else render(alltoall_tables(outcomes)))


@contextmanager
def _flagged(scenario: str | None, flags: Flags) -> Iterator[None]:
    """Problems of a value are those of the flag that gave it, or of the scenario."""
    try:
        yield
    except InputError as error:
        raise InputError(_placed(p, scenario, flags) for p in error.problems) from error


def _placed(problem: Problem, scenario: str | None, flags: Flags) -> Problem:
    key = problem.key
    if problem.place or not key:
        return problem
    if scenario is None or getattr(flags, key, None) is not None:
        return Problem(f"--{key.replace('_', '-')}", "", problem.message)
    return Problem(scenario, key, problem.message)
