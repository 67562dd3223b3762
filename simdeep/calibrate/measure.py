"""Measures one GPU from the shell: `python -m simdeep.calibrate.measure [--smoke] -o FOLDER`.

Needs torch and numpy alone. Writes `rows.csv` and `device.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from simdeep.calibrate.device import describe_device
from simdeep.calibrate.gpu_parts import PARTS, Session
from simdeep.calibrate.rows import Row, write_rows
from simdeep.calibrate.shapes import LINEARS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts asked for, writing the rows after each."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.calibrate.measure")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="few sizes, to try every part")
    parser.add_argument("--parts", nargs="*", choices=[*PARTS], default=[*PARTS])
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    session = Session(smoke=given.smoke)
    for name in given.parts:
        run_part(name, PARTS[name], session)
        write_rows(session.rows, given.out / "rows.csv")
        facts = {**describe_device("cuda"), "notes": session.notes}
        (given.out / "device.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def measure_gpu(linears: Mapping[str, tuple[int, int]] | None, quick: bool) -> list[Row]:
    """Rows of every part on the first GPU; `linears` are timed beside the usual layers."""
    session = Session(smoke=quick, linears={**LINEARS, **(linears or {})})
    for name, part in PARTS.items():
        run_part(name, part, session)
    return session.rows


def run_part(name: str, part: Callable[[Session], None], session: Session) -> None:
    """One part; what fails is noted and the next part goes on."""
    start, before = time.perf_counter(), len(session.rows)
    try:
        part(session)
    except Exception as error:
        session.note(name, error)
    took, rows = time.perf_counter() - start, len(session.rows) - before
    print(f"{name}: {rows} rows in {took:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
