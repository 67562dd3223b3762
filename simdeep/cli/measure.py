"""`simdeep measure`: what each component of a real model takes, keeps and routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdeep.cli.console import answer, progress, render
from simdeep.cli.faults import guarded
from simdeep.cli.files import out_folder, say_written
from simdeep.cli.options import JsonOption, OutOption, QuietOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simdeep.validate.hooks import Component, Measurement

COMPONENTS, ROUTING = "components.yaml", "routing.npz"
FILES = (COMPONENTS, ROUTING)


@guarded
def measure(
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="CONFIG", help="A config.json or a shipped model's name, built here."
        ),
    ] = "tiny-moe",
    module: Annotated[
        str | None,
        typer.Option(
            "--module",
            metavar="PACKAGE:FACTORY",
            help="A function without arguments that returns (module, batch), instead of --model.",
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option("--sequences", min=1, max=4096, help="Sequences of a batch.")
    ] = 4,
    tokens: Annotated[
        int, typer.Option("--tokens", min=2, max=1 << 16, help="Tokens of a sequence.")
    ] = 128,
    train_steps: Annotated[
        int,
        typer.Option("--train-steps", min=0, help="Steps on the shipped text before measuring."),
    ] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="Timed passes.")] = 10,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=1024, help="Threads that compute on a CPU.")
    ] = 1,
    device: Annotated[
        str, typer.Option("--device", help="cpu, or cuda where it is there.")
    ] = "cpu",
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="Component times of before, from this device, to show the change against.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and tokens.")] = 0,
    as_json: JsonOption = False,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Time forward, input and weight gradient of each component of a model (needs `torch`).

    Writes component times and the routing of every token into --out. The routing replays:
    `simdeep alltoall --routing DIR/routing.npz`.
    """
    from simdeep.program.routing import write_trace
    from simdeep.report.result_json import to_json
    from simdeep.validate.hooks.device import using
    from simdeep.validate.hooks.file import read_measurement, to_plain, write_measurement
    from simdeep.validate.hooks.measure import measure as run
    from simdeep.validate.hooks.subject import from_config, from_factory
    from simdeep.validate.torch_extra import require_torch

    require_torch()
    folder = out_folder(out, FILES)
    with folder as files, using(device, threads) as here, progress(quiet) as bar:
        before = None if baseline is None else read_measurement(baseline, here)
        bar.stage("building the model")
        subject = (
            from_config(model, sequences, tokens, train_steps, seed, device)
            if module is None
            else from_factory(module, device)
        )
        bar.stage(f"measuring {subject.name}")
        found = run(
            subject.module, subject.batch, loss=subject.loss, repeats=repeats, name=subject.name
        )
        if files is not None:
            files.write(COMPONENTS, lambda path: write_measurement(path, found))
            if (routing := found.routing) is not None:
                files.write(ROUTING, lambda path: write_trace(path, routing))
    say_written(files, quiet)
    answer(to_json(to_plain(found)) if as_json else render(_tables(found, before)))


def _tables(found: Measurement, before: Measurement | None) -> Iterator[RenderableType]:
    from rich.table import Table as Grid

    yield (
        f"{found.model}, {found.dtype}, batch {_shapes(found)}, on {found.device.name}, "
        f"{found.device.threads} thread(s), torch {found.device.torch}: medians of "
        f"{found.repeats} passes"
    )
    grid = Grid(box=None, pad_edge=False, header_style="")
    grid.add_column("layer", justify="right")
    grid.add_column("component")
    titles = ["F ms", "I ms", "W ms", "B ms", "saved MiB", "parameters MiB"]
    for title in [*titles, "F change", "B change"] if before else titles:
        grid.add_column(title, justify="right")
    old = {} if before is None else {(c.layer, c.name): c for c in before.components}
    for part in found.components:
        row = ["" if part.layer is None else str(part.layer), part.name, *_cells(part)]
        if before is not None:
            row += _changes(part, old.get((part.layer, part.name)))
        grid.add_row(*row)
    yield grid
    forward, backward = found.covered
    yield (
        f"The whole model takes {found.whole_f.median_s * 1e3:.2f} ms forward and "
        f"{found.whole_b.median_s * 1e3:.2f} ms backward; its components add up to "
        f"{100 * forward:.0f}% and {100 * backward:.0f}% of that."
    )
    yield (
        f"It keeps {found.saved_bytes / 2**20:.1f} MiB for the backward, "
        f"{found.elsewhere_bytes / 2**20:.1f} MiB of it between components, and has "
        f"{found.parameter_bytes / 2**20:.1f} MiB of parameters."
    )
    if found.routing is not None:
        rows = found.routing.experts
        layers = len(set(found.routing.layer.tolist()))
        yield (
            f"Routing: {len(rows) // layers} tokens in {layers} MoE layers, {rows.shape[1]} of "
            f"{found.routing.n_experts} experts each."
        )
    yield "B is the whole backward in one; I and W are the same work split in two."


def _shapes(found: Measurement) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in found.batch) or "without tensors"


def _cells(part: Component) -> list[str]:
    times: list[Any] = [part.f, part.i, part.w, part.b]
    sizes = (part.saved_bytes, part.parameter_bytes)
    return [f"{t.median_s * 1e3:.3f}" for t in times] + [f"{size / 2**20:.2f}" for size in sizes]


def _changes(part: Component, old: Component | None) -> list[str]:
    if old is None:
        return ["new", "new"]
    pairs = ((part.f, old.f), (part.b, old.b))
    return [
        f"{100 * (now.median_s / then.median_s - 1):+.0f}%" if then.median_s else "-"
        for now, then in pairs
    ]
