"""`simdeep calibrate`: kernels and transfers timed on this machine, fitted into a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdeep.cli.console import answer, progress, write_file
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption, QuietOption
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simdeep.calibrate.comm import CommRow
    from simdeep.calibrate.rows import Row


class Device(StrEnum):
    """Where to measure."""

    cpu = "cpu"
    cuda = "cuda"


HEADER = """\
# Fitted by `simdeep calibrate`; see docs/calibration.md. Do not edit by hand. Errors are relative
# and of layers (attention: lengths, memory: sizes) predicted from the others.
"""


@guarded
def calibrate(
    device: Annotated[
        Device | None, typer.Option("--device", help="What to time; CUDA where there is a GPU.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model whose layers are timed, a name or config.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="GPU file that the calibration is for, as in h100.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Calibration file to write.")
    ] = Path("calibration.yaml"),
    rows: Annotated[
        Path | None,
        typer.Option("--rows", help="Fit rows measured before (CSV) instead of measuring."),
    ] = None,
    procs: Annotated[
        list[int] | None,
        typer.Option("--procs", help="Also time transfers between so many processes or GPUs."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes: to try it.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time this machine's kernels and write a calibration file with its leave-out errors.

    Timed are GEMM, grouped GEMM, attention forward and backward, norms, casts and copies, at the
    shapes of the model and around them; on a GPU also memory bandwidth by CTAs, held SMs and two
    streams at once. The measured rows go beside the file, as CSV. Needs the extra `torch`; with
    `--rows` not.
    """
    with progress(quiet) as bar:
        if rows is not None:
            bar.stage("fitting")
            found = _fit(_read(rows), _facts_beside(rows), gpu, rows.name, ())
        else:
            found = _measured(device, model, gpu, out, procs or [], quick, bar)
    from simdeep.cost.fit.write import to_yaml

    write_file(out, lambda path: path.write_text(HEADER + to_yaml(found), encoding="utf-8"))
    if as_json:
        from simdeep.report.result_json import to_json

        answer(to_json({"file": str(out), "gemm": found["gemm"], "device": found["device"]}))
        return
    answer("\n".join([f"wrote {out}", *_summary(found)]))


def _measured(
    device: Device | None,
    model: str | None,
    gpu: str | None,
    out: Path,
    procs: Sequence[int],
    quick: bool,
    bar: Any,
) -> dict[str, Any]:
    from simdeep.validate import require_torch

    require_torch()
    import torch

    has_gpu = torch.cuda.is_available()
    where = device or (Device.cuda if has_gpu else Device.cpu)
    if where is Device.cuda and not has_gpu:
        raise InputError([Problem("--device", "", "cuda: torch finds no GPU here")])
    if where is Device.cuda:
        _gpu_of(gpu, torch.cuda.get_device_properties(0).name)
    _check_procs(where, procs)
    from simdeep.calibrate.device import describe_device
    from simdeep.calibrate.model_shapes import linears_of
    from simdeep.spec.model import load_model

    linears = linears_of(load_model(model)) if model else None
    bar.stage("timing kernels")
    if where is Device.cuda:
        from simdeep.calibrate.measure import measure_gpu

        found = measure_gpu(linears, quick)
    else:
        found = _on_cpu(linears or linears_of(load_model("tiny-moe")), quick)
    facts = {k: v for k, v in describe_device(where.value).items() if k != "gpus"}
    bar.stage("timing transfers")
    comm = _transfers(where, procs, quick)
    _keep(found, facts, out)
    bar.stage("fitting")
    return _fit(found, facts, gpu, out.with_suffix(".csv").name, comm)


def _on_cpu(linears: dict[str, tuple[int, int]], quick: bool) -> list[Row]:
    from simdeep.calibrate.cpu_parts import CpuPlan, measure_cpu
    from simdeep.calibrate.timing import CpuClock

    if not quick:
        return measure_cpu(CpuPlan(linears), CpuClock())
    few = dict(list(linears.items())[:3])
    plan = CpuPlan(few, (1, 16, 64), (16, 64), (16, 32, 64), 2, 8, (16, 64, 256), 64, 2)
    return measure_cpu(plan, CpuClock(0.002, 3))


def _check_procs(where: Device, procs: Sequence[int]) -> None:
    """Refuse numbers of processes that this machine cannot run."""
    import torch

    most = torch.cuda.device_count() if where is Device.cuda else 16
    what = "GPUs of this machine" if where is Device.cuda else "processes"
    problems = [
        Problem("--procs", "", f"{n}: transfers are between 2 to {most} {what}")
        for n in procs
        if not 2 <= n <= most
    ]
    if problems:
        raise InputError(problems)


def _transfers(where: Device, procs: Sequence[int], quick: bool) -> list[CommRow]:
    if not procs:
        return []
    from simdeep.calibrate.comm import SIZES, measure_collectives, measure_p2p

    backend: Any = "nccl" if where is Device.cuda else "gloo"
    sizes = SIZES[2:6:3] if quick else SIZES
    rows = measure_p2p(backend, sizes)
    for n in procs:
        rows += measure_collectives(backend, sizes=sizes, procs=n)
    return rows


def _keep(rows: Sequence[Row], facts: dict[str, Any], out: Path) -> None:
    """The rows and the device's facts beside the calibration file."""
    import json

    from simdeep.calibrate.rows import write_rows

    write_file(out.with_suffix(".csv"), lambda path: write_rows(rows, path))
    text = json.dumps(facts, indent=1) + "\n"
    beside = out.with_suffix(".device.json")
    write_file(beside, lambda path: path.write_text(text, encoding="utf-8"))


def _read(path: Path) -> list[Row]:
    from simdeep.calibrate.rows import read_rows

    try:
        return read_rows(path)
    except (OSError, ValueError, UnicodeDecodeError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(str(path), "", f"cannot read: {reason}")]) from error


def _facts_beside(rows: Path) -> dict[str, Any]:
    import json

    path = rows.with_suffix(".device.json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"cannot read what the rows were measured on: {error}"
        raise InputError([Problem(str(path), "", message)]) from error
    if not isinstance(facts, dict) or "device" not in facts:
        raise InputError([Problem(str(path), "device", "says no device")])
    return facts


def _gpu_of(name: str | None, device: str) -> str:
    """The GPU file that a device's calibration is for."""
    from simdeep.spec.hardware import gpu_catalogue

    if name is not None:
        return name
    short = [g for g in gpu_catalogue() if g.upper() in device.upper().replace(" ", "-")]
    if not short:
        message = f"no shipped GPU file goes with {device!r}; name one"
        raise InputError([Problem("--gpu", "", message)])
    return short[0]


def _fit(
    rows: Sequence[Row],
    facts: dict[str, Any],
    gpu: str | None,
    source: str,
    comm: Sequence[CommRow],
) -> dict[str, Any]:
    if "sms" not in facts:
        from simdeep.calibrate.cpu_file import calibration_of_cpu

        return calibration_of_cpu(rows, facts, source, gpu or "cpu", comm)
    from simdeep.calibrate.cpu_file import transfers_part
    from simdeep.calibrate.file import calibration_of_gpu
    from simdeep.spec.hardware import load_gpu

    file = calibration_of_gpu(rows, load_gpu(_gpu_of(gpu, facts["device"])), facts, source)
    return {**file, "transfers": transfers_part(comm)} if comm else file


def _summary(file: dict[str, Any]) -> list[str]:
    """Errors of what was fitted, one line each."""
    lines = [f"device: {file['device']['device']}"]
    for row in file["gemm"]:
        lines.append(
            f"GEMM {row['dtype']} {row['variant']}: {row['rows']} rows, layers left out: median "
            f"{row['median_error']:.1%}, 90th percentile {row['p90_error']:.1%}; "
            f"spread {row['spread']:.1%}"
        )
    for row in file["attention"]:
        lines.append(
            f"attention {row['variant']}: {row['rows']} rows, median {row['median_error']:.1%}"
        )
    for row in file.get("transfers", ()):
        lines.append(
            f"{row['backend']} {row['collective']} of {row['procs']}: {row['latency_us']:.1f} us, "
            f"{row['GBps']:.2f} GB/s"
        )
    return lines
