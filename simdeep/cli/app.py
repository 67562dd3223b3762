"""The commands put together, and the entry point."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import simdeep
from simdeep.cli import (
    alltoall,
    calibrate,
    collectives,
    compare,
    measure,
    plan,
    plan_schedule,
    report,
    run,
    schema,
    show,
    size,
    sweep,
    trace,
    validate,
)
from simdeep.cli.faults import INTERRUPTED, on_terminate

app = typer.Typer(
    name="simdeep",
    help="Simulate a training step of a large model on a GPU cluster: how long it takes, where "
    "the time goes, whether it fits, what it costs.",
    epilog="Exit codes: 0 done; 1 a fault of simdeep; 2 bad usage or bad input; 3 answered, and "
    "the answer is no (it does not fit).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help starts faster and reads the same in a pipe.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("size")(size.size)
app.command("plan-schedule")(plan_schedule.plan_schedule)
app.add_typer(sweep.app, name="sweep")
app.command("report")(report.report)
app.command("alltoall")(alltoall.alltoall)
app.command("collectives")(collectives.collectives)
app.command("measure")(measure.measure)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(show.app, name="show")
app.command("schema")(schema.schema)
app.add_typer(trace.app, name="trace")
app.add_typer(validate.app, name="validate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simdeep {simdeep.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of `simdeep`."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # a file name that is no valid text must not stop the answer
        reconfigure(errors="backslashreplace")
    try:
        with on_terminate():
            app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
