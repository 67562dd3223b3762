"""What each process of a run does: all cases, one after the other, as one rank.

The process that starts the others imports this too, so torch comes inside the functions.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from simdeep.program.schedule import Table, acts_of
from simdeep.validate.cases import ModelSize, Runtime, StageGradient
from simdeep.validate.job import CellTime, Found, Job

if TYPE_CHECKING:
    from simdeep.validate.computer import Computer

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def main(rank: int, job: Job) -> None:
    """Entry point of a process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, not only when gloo has waited enough
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(job.log(rank))
    try:
        found = _run(rank, job)
    except Exception:
        job.error(rank).write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)
    job.found(rank).write_bytes(pickle.dumps(found))


def _end_with_parent() -> None:
    """Nobody waits for this rank any more once the process that started the run is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _print_to(path: Path) -> None:
    """Whatever is printed here, by gloo too, belongs neither to the answer nor to a test."""
    with path.open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _run(rank: int, job: Job) -> list[Found]:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    interface = _LOOPBACK.get(sys.platform)
    if interface:  # without it gloo looks up the host's name, which may have no address
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    dist.init_process_group(
        "gloo",
        init_method=(job.folder / "store").as_uri(),
        rank=rank,
        world_size=job.n_ranks,
        timeout=timedelta(seconds=job.timeout_s),
    )
    found = [_run_case(rank, job, number) for number in range(len(job.cases))]
    dist.barrier()
    dist.destroy_process_group()
    return found


def _run_case(rank: int, job: Job, number: int) -> Found:
    from simdeep.validate.model import digest, gradient_error, run_reference
    from simdeep.validate.torch_schedule import run_csv

    case = job.cases[number]
    times: list[CellTime] = []
    if case.runtime is Runtime.TORCH:
        loss, stages = run_csv(job.csv(number), case.table, rank, job.size)
    else:
        computer, times = _run_own(rank, case.table, job.size)
        loss, stages = computer.loss, computer.stages
    wanted = run_reference(job.size, case.table.n_stages, case.table.n_microbatches)
    gradients = (
        StageGradient(rank, stage, gradient_error(module, wanted.gradients[stage]), digest(module))
        for stage, module in stages.items()
    )
    return Found(loss, wanted.loss, tuple(gradients), tuple(times))


def _run_own(rank: int, table: Table, size: ModelSize) -> tuple[Computer, list[CellTime]]:
    import torch
    import torch.distributed as dist

    from simdeep.validate.computer import Computer
    from simdeep.validate.model import DTYPE, loss_of, make_batch, make_stage
    from simdeep.validate.runtime import RankRuntime

    inputs, targets = (
        part.chunk(table.n_microbatches) for part in make_batch(size, table.n_microbatches)
    )
    stages = {stage: make_stage(size, stage) for stage in table.stages_of[rank]}
    computer = Computer(stages, table.n_stages, inputs, targets, loss_of)
    runtime = RankRuntime(
        table, rank, computer, lambda: torch.empty(size.rows, size.width, dtype=DTYPE)
    )
    for _ in range(2):  # the first step also opens connections and warms torch up
        for module in stages.values():
            module.zero_grad()
        computer.notes.take()
        dist.barrier()
        runtime.step()
    spans = iter(computer.notes.take())
    times = []
    for cell in table.rows[rank]:
        of_cell = [next(spans) for _ in acts_of(cell)]
        times.append(CellTime(of_cell[0].start, of_cell[-1].end))
    return computer, times
