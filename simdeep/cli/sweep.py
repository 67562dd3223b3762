"""`simdeep sweep`: a scenario at every combination of some values; `simdeep sweep merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from simdeep.cli.console import answer, note, render
from simdeep.cli.faults import DOES_NOT_FIT, FAULT, guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import (
    EngineOption,
    JsonOption,
    OutOption,
    QuietOption,
    ScenarioArgument,
    SetOption,
    Source,
)
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from simdeep.sweep.plan import Plan
    from simdeep.sweep.run import Swept


class _Group(TyperGroup):
    """`simdeep sweep SCENARIO` is `simdeep sweep run SCENARIO`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="A scenario at every combination of some values (simdeep sweep --help), and merging of "
    "stores (simdeep sweep merge --help).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "run",
    epilog="simdeep sweep merge puts stores of shards together. Exit codes: 0 done; 2 bad input; "
    "3 no point fits; 130 stopped by Ctrl-C (go on with the same command).",
)
@guarded
def run(
    scenario: ScenarioArgument,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=VALUES",
            help="Values of a key: a,b,c or from:to:count or from:to:count:log; may be given "
            "several times. Keys as --set takes them, also topology.nic.bandwidth, "
            "topology.gpu.hbm_bandwidth, model.topk_group. By default what the scenario's sweep: "
            "section varies.",
        ),
    ] = None,
    sets: SetOption = None,
    engine: EngineOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", help="Local processes; by default all cores."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend", metavar="loky|dask|ray", help="Where to compute: local cores or a cluster."
        ),
    ] = "loky",
    scheduler_file: Annotated[
        Path | None,
        typer.Option(
            "--scheduler-file", metavar="FILE", help="dask: the file that its scheduler wrote."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Only every N-th point, from the I-th (counted from 0 or 1), for job arrays.",
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            metavar="FILE",
            help="File of all results, which only grows; the sweep goes on from what is there. By "
            "default sweep.jsonl in --out, or SCENARIO.sweep.jsonl here.",
        ),
    ] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Simulate a scenario at every combination of the values of some keys.

    Results are kept as they come: stopped or killed, the same command goes on where it was, and
    what is finished is answered from the store. Points that are illegal or do not fit are rows
    with their reason. Exit code 3 if no point fits into GPU memory.
    """
    from simdeep.sweep.axes import count_points, merged, parse_shard, parse_vary
    from simdeep.sweep.backends import Workers, local_cores
    from simdeep.sweep.files import FILES, write_sweep
    from simdeep.sweep.plan import Plan, own_sweep
    from simdeep.sweep.store import Store

    source = Source.of(scenario, sets, engine)
    section, own = own_sweep(scenario)
    axes = tuple(merged(own, parse_vary(vary or ()), source.overrides))
    count_points(axes)
    number, shards = parse_shard(shard)
    chosen = local_cores() if jobs is None else jobs
    workers = Workers(_backend(backend), chosen, scheduler_file)
    workers.check()
    plan = Plan(source.path, source.overrides, axes)
    path = _store_path(store, out, plan, number, shards)
    points = plan.points(number, shards)
    with out_folder(out, FILES) as files:
        with Store(path) as kept:
            swept = _swept(plan, points, kept, workers, quiet)
        if files is not None:
            write_sweep(files, swept, path, section)
    _answer(swept, path, as_json)
    say_written(files, quiet)
    _leave(swept, quiet)


def _backend(name: str) -> Any:
    from simdeep.spec.resources import nearest
    from simdeep.sweep.backends import Backend

    names = tuple(backend.value for backend in Backend)
    if name in names:
        return Backend(name)
    near = nearest(name, names)
    hint = f"; did you mean {near}?" if near else ""
    raise InputError([Problem(f"--backend {name}", "", f"must be one of {', '.join(names)}{hint}")])


def _store_path(store: Path | None, out: Path | None, plan: Plan, number: int, shards: int) -> Path:
    """The store that was named, else one beside the charts or in this folder, one a shard."""
    if store is not None:
        return store
    part = f"-{number}-of-{shards}" if shards > 1 else ""
    return Path(f"{plan.name}.sweep{part}.jsonl") if out is None else out / f"sweep{part}.jsonl"


def _swept(plan: Plan, points: Any, kept: Any, workers: Any, quiet: bool) -> Swept:
    from simdeep.cli.counted import Told
    from simdeep.sweep.run import sweep

    missing = sum(point.key not in kept.rows for point in points)
    if not quiet:
        note(
            f"{len(points):,} points, {len(points) - missing:,} already in {kept.path}; "
            f"the same command goes on from there whenever it is stopped."
        )
    with Told(quiet) as tell:
        try:
            return sweep(plan, points, kept, workers, tell)
        except (KeyboardInterrupt, SystemExit):
            tell.stopped(kept.path, len(kept.rows))
            raise


def _answer(swept: Swept, path: Path, as_json: bool) -> None:
    from simdeep.sweep.table import sweep_json

    if as_json:
        import json

        document = sweep_json(swept, path)
        answer(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")
        return
    from simdeep.cli.sweep_text import report

    answer(render(report(swept)))


def _leave(swept: Swept, quiet: bool) -> None:
    from simdeep.sweep.evaluate import Status

    statuses = {row["status"] for row in swept.rows}
    failed = [row for row in swept.rows if row["status"] == Status.FAILED]
    if failed:
        note(f"simdeep: {len(failed)} points failed, the first with {failed[0]['reason']}")
        note("This is a bug in simdeep: please report it. The sweep tries them again.")
        raise typer.Exit(FAULT)
    if swept.rows and Status.FITS not in statuses:
        if not quiet:
            note("No point fits; the reasons are in the answer.")
        raise typer.Exit(DOES_NOT_FIT)


@app.command("merge")
@guarded
def merge(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="Stores, such as those of shards.")
    ],
    into: Annotated[
        Path,
        typer.Option("--store", "-o", metavar="FILE", help="Store that gets all their rows."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Put the rows of several stores into one; what is in several is there once."""
    from simdeep.sweep.store import Store
    from simdeep.sweep.store import merge as merge_stores

    with Store(into) as whole:
        new = merge_stores(whole, stores)
        rows = len(whole.rows)
    if as_json:
        import json

        found = {"store": str(into), "merged": len(stores), "new": new, "rows": rows}
        answer(json.dumps(found, indent=2, sort_keys=True) + "\n")
        return
    answer(f"{into}: {rows:,} rows, {new:,} of them new.\n")
