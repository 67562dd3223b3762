"""Writes the orders that torch 2.13's pipeline schedules execute, for tests that need no torch.

    pip install torch==2.13.0
    python tests/data/make_torch_schedules.py

Small tables are stored whole, one CSV each; of the others `digests.csv` has the SHA-256 of the CSV.
What a schedule executes is read off the object torch runs: the table of multi-stage schedules with
its waits and communication left out, the calls on the stage of single-stage ones.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).parent / "torch_schedules"

LOOPED = ("Interleaved1F1B", "InterleavedZeroBubble")
V_SHAPED = ("ZBVZeroBubble", "DualPipeV")
SINGLE = ("GPipe", "1F1B")

SIZES = {4: (8, 10, 12, 13, 20, 64, 120), 8: (8, 12, 16, 20, 64, 120), 16: (8, 16, 32, 40, 120)}
"""Micro-batches by pipeline ranks; where a schedule refuses a size there is no entry."""

_MOST_CELLS = 1000
"""Tables of at most as many cells are stored whole."""


def cases() -> list[tuple[str, int, int, int]]:
    """(torch's name, ranks, micro-batches, stages a rank) of everything that is stored."""
    found = []
    for pp, counts in SIZES.items():
        for m in counts:
            found += [(name, pp, m, 1) for name in SINGLE if name == "GPipe" or m >= pp]
            found += [(name, pp, m, vpp) for name in LOOPED for vpp in (2, 3) if looped(pp, m)]
            found += [(name, pp, m, 2) for name in V_SHAPED if name[0] == "Z" or m >= 2 * pp]
    return found


def looped(pp: int, microbatches: int) -> bool:
    """Whether torch takes the numbers: rounds of equal size."""
    return microbatches % max(1, microbatches // pp) == 0


def executed_csv(name: str, pp: int, microbatches: int, vpp: int) -> str:
    """The order torch executes, one line a rank, in torch's notation."""
    rows = _single if name in SINGLE else _multi
    return "".join(",".join(row) + "\n" for row in rows(name, pp, microbatches, vpp))


def _multi(name: str, pp: int, microbatches: int, vpp: int) -> list[list[str]]:
    from torch.distributed.pipelining.schedules import get_schedule_class

    stages = [_stage(0, pp, pp * vpp, index) for index in range(vpp)]
    made: Any = get_schedule_class(name)(stages, microbatches)
    with_comms = made.pipeline_order_with_comms
    return [
        [str(action) for action in with_comms[rank] if action.is_compute_op] for rank in range(pp)
    ]


def _single(name: str, pp: int, microbatches: int, vpp: int) -> list[list[str]]:
    """Run the loop of a single-stage schedule on a stage that only takes notes."""
    from torch.distributed.pipelining.schedules import get_schedule_class

    rows = []
    for rank in range(pp):
        row: list[str] = []
        stage = _stage(rank, pp, pp, rank)
        stage.forward_one_chunk = lambda mb, *_, row=row, rank=rank, **__: row.append(
            f"{rank}F{mb}"
        )
        stage.backward_one_chunk = lambda mb, row=row, rank=rank, **_: row.append(f"{rank}B{mb}")
        made: Any = get_schedule_class(name)(stage, microbatches)
        made._initialize_stage = lambda *_: None
        made._step_microbatches([()] * microbatches, [{}] * microbatches)
        rows.append(row)
    return rows


def _stage(rank: int, pp: int, n_stages: int, index: int) -> Any:
    """What schedules ask of a stage when they are made."""
    none = [f"get_{way}_{kind}_ops" for way in ("fwd", "bwd") for kind in ("recv", "send")]
    return SimpleNamespace(
        group_size=pp,
        group_rank=rank,
        num_stages=n_stages,
        stage_index=index,
        is_first=index == 0,
        is_last=index == n_stages - 1,
        submod=None,
        perform_reduce_grad=lambda _: None,
        **{name: lambda _: [] for name in none},
    )


def file_name(name: str, pp: int, microbatches: int, vpp: int) -> str:
    """Name of the file that holds a case."""
    return f"{name}-{pp}x{microbatches}-v{vpp}.csv"


def digest(text: str) -> str:
    """What stands for a table in `digests.csv`."""
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Write every case."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.csv"):
        old.unlink()
    lines = ["name,pp,microbatches,vpp,sha256"]
    for case in cases():
        text = executed_csv(*case)
        lines.append(",".join(map(str, (*case, digest(text)))))
        if text.count(",") < _MOST_CELLS and case[2] <= 12:
            (FOLDER / file_name(*case)).write_text(text, encoding="utf-8", newline="\n")
    (FOLDER / "digests.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(lines) - 1} cases in {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    main()
