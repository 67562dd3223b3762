"""Measures transfers from the shell: `python -m simdeep.calibrate.measure_comm BACKEND -o FILE`."""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from simdeep.calibrate.comm import SIZES, CommRow, measure_collectives, measure_p2p


def main(arguments: Sequence[str] | None = None) -> None:
    """Sends and collectives between processes, or GPUs, of this machine."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.calibrate.measure_comm")
    parser.add_argument("backend", choices=["gloo", "nccl"])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--procs", type=int, nargs="+", default=[2])
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="bytes")
    given = parser.parse_args(arguments)
    sizes = [4**e for e in range(3, 16) if 4**e <= given.largest]
    rows = measure_p2p(given.backend, sizes)
    for procs in given.procs:
        rows += measure_collectives(given.backend, sizes=sizes, procs=procs)
    write_comm(rows, given.out)


def write_comm(rows: Iterable[CommRow], path: Path) -> None:
    """Rows as CSV; seconds to a nanosecond."""
    names = [field.name for field in dataclasses.fields(CommRow)]
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(names)
        for row in rows:
            values = (getattr(row, name) for name in names)
            out.writerow([f"{v:.9f}" if isinstance(v, float) else v for v in values])


def read_comm(path: Path) -> list[CommRow]:
    """Rows that `write_comm` wrote."""
    number = {"bytes": int, "procs": int, "repeats": int, "backend": str, "kind": str}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            CommRow(**{name: number.get(name, float)(text) for name, text in line.items()})
            for line in csv.DictReader(file)
        ]


if __name__ == "__main__":
    main()
