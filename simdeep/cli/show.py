"""`simdeep show`: what simdeep knows of a model, a cluster, a layout or a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simdeep.cli.console import answer, note, render, write_file
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, ScenarioArgument, SetOption, Source
from simdeep.cli.show_schedule import Format

app = typer.Typer(
    help="Show a model, a cluster, a layout or a schedule.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("model")
@guarded
def model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Shipped name, or config.json.")],
    as_json: JsonOption = False,
) -> None:
    """Show a model: its layers, parameters, FLOPs and KV cache per token."""
    from simdeep.cli.show_model import model_json, model_tables
    from simdeep.report.result_json import to_json
    from simdeep.spec.model import load_model

    found = load_model(name)
    answer(to_json(model_json(found)) if as_json else render(model_tables(found)))


@app.command("topology")
@guarded
def topology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Shipped name, or a topology file.")],
    as_json: JsonOption = False,
) -> None:
    """Show a cluster: GPUs, links, switches, price, and where each figure comes from."""
    from simdeep.cli.show_topology import topology_json, topology_tables
    from simdeep.report.result_json import to_json
    from simdeep.spec.topology import load_topology

    found = load_topology(name)
    answer(to_json(topology_json(found)) if as_json else render(topology_tables(found)))


@app.command("layout")
@guarded
def layout(
    scenario: ScenarioArgument,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a scenario's model lies on its GPUs: groups, stages, parameters."""
    from simdeep.cli.show_layout import layout_json, layout_tables
    from simdeep.report.result_json import to_json

    found = Source.of(scenario, sets).load()
    answer(to_json(layout_json(found)) if as_json else render(layout_tables(found)))


@app.command("schedule")
@guarded
def schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1f1b, zb-v, ScheduleDualPipeV, ...")],
    pp: Annotated[int, typer.Option("--pp", help="Pipeline ranks.")] = 8,
    microbatches: Annotated[int, typer.Option("--microbatches", "-m", help="Micro-batches.")] = 20,
    vpp: Annotated[
        int | None, typer.Option("--vpp", help="Stages on each rank; by default the schedule's.")
    ] = None,
    costs: Annotated[
        str,
        typer.Option(
            "--costs",
            metavar="f=1,i=1,w=1,...",
            help="Times of F, I, W, an overlapped F and B (fb) of a stage and of a transfer (p2p), "
            "in any unit.",
        ),
    ] = "",
    form: Annotated[Format, typer.Option("--format", help="What to show.")] = Format.grid,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file.")
    ] = None,
) -> None:
    """Show a pipeline schedule: its table, its bubble, and the published closed forms."""
    from simdeep.cli.show_schedule import read_costs, render_schedule, write_png
    from simdeep.errors import InputError, Problem
    from simdeep.program.schedule import build_table, find_schedule, schedule_problems

    vpp = find_schedule(name).default_vpp if vpp is None else vpp
    problems = schedule_problems(name, pp, microbatches, vpp)
    if problems:
        raise InputError(Problem(f"--{p.key}", "", p.message) for p in problems)
    table = build_table(name, pp, microbatches, vpp)
    given = read_costs(costs)
    if form is Format.png:
        if output is None:
            raise InputError([Problem("--format png", "", "needs a file: add -o FILE.png")])
        if output.suffix != ".png":
            raise InputError([Problem(f"-o {output}", "", "a picture's name ends in .png")])
        write_file(output, lambda path: write_png(table, given, path))
    elif output is None:
        answer(render_schedule(table, given, form, to_console=True))
    else:
        text = render_schedule(table, given, form, to_console=False)
        write_file(output, lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
    if output is not None:
        note(f"Wrote {output}.")
