"""`simdeep trace`: timelines as files for Perfetto and HTA, and measured beside simulated ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, note, progress, render, write_file
from simdeep.cli.faults import guarded
from simdeep.cli.files import out_folder
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
    from simdeep.analysis.booking import IdlePieces
    from simdeep.api import Result
    from simdeep.traces import Trace

IMPORT_FILES = ("spans.csv", "trace.json")
DIFF_FILES = ("phases.png", "timelines.png", "phases.csv", "diff.json")

app = typer.Typer(
    help="Timelines as files other tools open, and measured timelines beside simulated ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("export")
@guarded
def export(
    scenario: ScenarioArgument,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .json or .json.gz file; with --split a folder.",
        ),
    ],
    sets: SetOption = None,
    engine: EngineOption = None,
    ranks: Annotated[
        str | None,
        typer.Option("--ranks", metavar="LIST", help="Ranks to write, as in 0,3-5; default: all."),
    ] = None,
    split: Annotated[
        bool,
        typer.Option("--split", help="A file for each rank, as HolisticTraceAnalysis reads them."),
    ] = False,
    flows: Annotated[
        bool, typer.Option(help="Arrows from producers to consumers on other streams or ranks.")
    ] = True,
    quiet: QuietOption = False,
) -> None:
    """Simulate a scenario and write its timeline as a Kineto-shaped Chrome trace.

    Of a run that simulates every GPU, the first GPU of every pipeline rank is written.
    """
    from simdeep.api import simulate
    from simdeep.traces import export as make
    from simdeep.traces import export_ranks, write_trace

    loaded = Source.of(scenario, sets, engine).load()
    with progress(quiet) as bar:
        result, idle = _shown(simulate(loaded, bar.tasks("simulating")))
        chosen = None if ranks is None else _ranks(ranks, result.timeline.program.n_ranks)
        bar.stage("writing")
        if split:
            if chosen is not None:
                raise InputError([Problem("--ranks", "", "--split writes all ranks")])
            from simdeep.report.output import OutputFolder

            names = [f"rank-{r}.json.gz" for r in range(result.timeline.program.n_ranks)]
            with OutputFolder(out, names) as folder:
                for rank, document in export_ranks(result, flows, idle):
                    folder.write(names[rank], partial(write_trace, document))
        else:
            document = make(result, chosen, flows, idle)
            write_file(out, lambda path: write_trace(document, path))
    if not quiet:
        note(f"Wrote {out}; open it in Perfetto (ui.perfetto.dev) or chrome://tracing.")


def _shown(result: Result) -> tuple[Result, IdlePieces | None]:
    """Of a run that simulates every GPU, the first of each pipeline rank: a trace one can open."""
    if result.stragglers is None:
        return result, None
    from dataclasses import replace

    from simdeep.analysis.memory import memory
    from simdeep.analysis.view import idle_of_each, one_of_each

    timeline = one_of_each(result.timeline, result.stragglers.peers)
    kept = memory(timeline, result.static.parts, result.memory.capacity_gib)
    idle = idle_of_each(result.timeline, result.stragglers.peers)
    return replace(result, timeline=timeline, memory=kept), idle


def _ranks(text: str, n_ranks: int) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            message = f"{part.strip()!r} is no rank or range of ranks, as in 0,3-5"
            raise InputError([Problem(f"--ranks {text}", "", message)])
        low, high = int(first), int(last) if dash else int(first)
        if not low <= high < n_ranks:
            message = f"{part.strip()} must be within 0 to {n_ranks - 1}, ascending"
            raise InputError([Problem(f"--ranks {text}", "", message)])
        found.extend(range(low, high + 1))
    return found


TraceArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A trace (.json, .json.gz of PyTorch's profiler or simdeep, .csv) or a shipped one.",
    ),
]


@app.command("import")
@guarded
def import_(file: TraceArgument, as_json: JsonOption = False, out: OutOption = None) -> None:
    """Read a trace: time by rank, kind and phase, overlap and exposed communication."""
    from simdeep.report.result_json import to_json
    from simdeep.traces import read_trace
    from simdeep.traces.tables import trace_json, trace_tables

    folder = out_folder(out, IMPORT_FILES)
    with folder as files:
        trace = read_trace(file)
        document = trace_json(trace)
        if files is not None:
            files.write("spans.csv", lambda path: trace.spans.to_csv(path, index=False))
            files.write_text("trace.json", to_json(document))
    answer(to_json(document) if as_json else render(trace_tables(trace)))


_DIFF_HELP = "A trace file, a shipped trace, or a scenario, which is simulated."


@app.command("diff")
@guarded
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_DIFF_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=_DIFF_HELP)],
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Put two timelines side by side, phase by phase; with --out also as charts."""
    from simdeep.report import charts
    from simdeep.report.charts.trace_diff import phase_lengths, trace_lanes
    from simdeep.report.result_json import to_json
    from simdeep.traces import compare
    from simdeep.traces.tables import diff_json, diff_tables

    folder = out_folder(out, DIFF_FILES)
    with folder as files:
        found = compare(_trace(a), _trace(b))
        document = diff_json(found)
        if files is not None:
            names = (f"{found.a.name} ({found.a.source})", f"{found.b.name} ({found.b.source})")
            both = found.phases.dropna(subset=["mean_ns_a", "mean_ns_b"])
            files.write("phases.png", lambda p: charts.save(phase_lengths(both, names), p))
            spans = found.a.spans, found.b.spans
            files.write("timelines.png", lambda p: charts.save(trace_lanes(spans, names), p))
            files.write("phases.csv", lambda p: found.phases.to_csv(p, index=False))
            files.write_text("diff.json", to_json(document))
    answer(to_json(document) if as_json else render(diff_tables(found)))


def _trace(name: str) -> Trace:
    """A trace by file or name, or what a scenario simulates."""
    from simdeep.spec.resources import resource_dir
    from simdeep.traces import read_trace, trace_of
    from simdeep.traces.files import SUFFIXES

    if name.endswith((*SUFFIXES, ".csv")) or (resource_dir("traces") / f"{name}.csv").is_file():
        return read_trace(name)
    from simdeep.api import simulate

    loaded = Source(name).load()
    shown, idle = _shown(simulate(loaded))
    return trace_of(shown.timeline, loaded.name, idle)
