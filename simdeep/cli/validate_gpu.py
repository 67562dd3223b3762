"""`simdeep validate gpu`: a DeepSeek-V3 layer on one CUDA GPU, predicted and measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, OutOption, QuietOption
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from simdeep.validate.gpu import Compared
    from simdeep.validate.gpu_report import GpuReport

DISAGREES = 4
"""Exit code where prediction and measurement differ by more than the tolerance."""

NAMES = ("gpu.json", "gpu.md", "gpu.png")


@guarded
def gpu(
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", help="Shipped name or file; the one shipped for this GPU if left out."
        ),
    ] = None,
    held_sms: Annotated[
        int, typer.Option("--held-sms", min=1, max=100, help="SMs of the communication stand-in.")
    ] = 20,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run one DeepSeek-V3 layer on this machine's GPU and compare it with its prediction.

    The layer is what one rank of EP64 holds: four routed experts, the shared one, MLA. Timed are
    forward, input gradient and weight gradient by component, each also while another kernel holds
    SMs as communication does, and forward beside backward on two streams. The prediction comes
    from the calibration file alone. Exit code 4: F, I, W or the effect of held SMs is off by more
    than 10%. Needs a CUDA GPU and the extra `torch`.
    """
    from simdeep.validate import require_torch

    require_torch()
    report = _run(calibration, held_sms, quiet)
    if out is not None:
        _write(report, out)
    if as_json:
        from simdeep.report.result_json import to_json

        answer(to_json(report.as_json()))
    else:
        answer(render(_tables(report)))
    if not report.holds:
        raise typer.Exit(DISAGREES)


def _run(given: str | None, held_sms: int, quiet: bool) -> GpuReport:
    import torch

    from simdeep.cost.calibration import load_calibration
    from simdeep.validate import gpu as compare
    from simdeep.validate.gpu_report import GpuReport

    found = None if given is None else load_calibration(given)
    if not torch.cuda.is_available():
        message = "this needs a CUDA GPU, and torch finds none"
        raise InputError([Problem("", "", message)])
    from simdeep.calibrate.device import describe_device

    device = describe_device("cuda")
    name = compare.shipped_for(device) if given is None else given
    found = found or load_calibration(name)
    compare.check_device(found, device, f"--calibration {name}")
    prediction = compare.predict_layer(found, held_sms)
    from simdeep.validate.gpu_layer import LayerSize
    from simdeep.validate.gpu_measure import measure_layer

    size = LayerSize(compare.TOKENS, compare.ROWS, compare.UNIQUE)
    with progress(quiet) as bar:
        bar.stage("measuring the layer")
        times = measure_layer(size, held_sms, compare.HELD_KERNELS)
    pairs = {step: (times.kernels[step], after) for step, after in times.kernels_held.items()}
    measured = times.as_json()
    return GpuReport(
        layer=compare.compare_layer(prediction, measured),
        effects=compare.compare_held(found, pairs, held_sms),
        held=[
            compare.Compared(part, us, times.held[part], False)
            for part, us in prediction.held.items()
        ],
        beside=compare.Compared(
            "F beside B",
            sum(prediction.components.values()),
            times.together["f_beside_b"],
            False,
        ),
        clock_mhz=(prediction.clock * float(found.device["max_sm_mhz"]), float(times.mhz)),
        device=device,
        calibration=name,
        held_sms=held_sms,
        times=measured,
    )


def _write(report: GpuReport, out: object) -> None:
    from pathlib import Path

    from simdeep.report.charts.canvas import save
    from simdeep.report.output import OutputFolder
    from simdeep.report.result_json import to_json
    from simdeep.validate.gpu_report import components_chart

    with OutputFolder(Path(str(out)), NAMES) as folder:
        folder.write_text("gpu.json", to_json(report.as_json()) + "\n")
        folder.write_text("gpu.md", report.as_markdown())
        folder.write("gpu.png", lambda path: save(components_chart(report), path))


def _tables(report: GpuReport) -> Iterator[RenderableType]:
    yield f"one DeepSeek-V3 layer on {report.device['device']}, microseconds"
    yield _grid(report.layer, "{:.0f}")
    yield f"slow-down by {report.held_sms} held SMs"
    yield _grid(report.effects, "{:.3f}")
    yield f"components while {report.held_sms} SMs are held, microseconds"
    yield _grid(report.held, "{:.0f}")
    yield "forward beside backward on two streams, microseconds"
    yield _grid([report.beside], "{:.0f}")
    yield f"judged figures (*) {'hold' if report.holds else 'DO NOT HOLD'}"


def _grid(rows: Sequence[Compared], form: str) -> RenderableType:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="")
    grid.add_column("")
    for title in ("predicted", "measured", "off"):
        grid.add_column(title, justify="right")
    for row in rows:
        mark = "*" if row.judged else ""
        off = f"{row.error:+.1%}"
        grid.add_row(row.name + mark, form.format(row.predicted), form.format(row.measured), off)
    return grid
