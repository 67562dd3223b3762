"""`python -m benchmarks [--quick] [--out DIR]`: about five minutes, or one with --quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure, report
from benchmarks.claims import claims
from benchmarks.measure import Row
from benchmarks.steps import BY_GPUS, BY_MICROBATCHES, FOLDED, SMALL, WHOLE, Step, as_dict
from benchmarks.sweep import sweep


def main() -> int:
    """Measure, write the report, and return 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out what has 5e5 tasks or more")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the report")
    options = parser.parse_args()
    quick: bool = options.quick

    def each(function: Callable[[Step], Row], steps: tuple[Step, ...]) -> list[Row]:
        rows = []
        for step in steps:
            print(f"{function.__name__}: {step.name}", file=sys.stderr, flush=True)
            rows.append({"step": as_dict(step), **measure.alone(function, step)})
        return rows

    found = {
        "machine": measure.machine(),
        "compiling": measure.compiling(),
        "engines": each(
            measure.engines, (FOLDED, BY_MICROBATCHES[0], Step(gpus=32, fold=False, ep=2))
        ),
        "by_microbatches": each(measure.engine, BY_MICROBATCHES[: 4 if quick else None]),
        "by_gpus": each(measure.engine, BY_GPUS[: 2 if quick else None]),
        "unfolded": each(measure.engine, () if quick else (SMALL, WHOLE)),
        "whole": each(measure.whole, () if quick else (SMALL, WHOLE)),
        "sweep": None if quick else sweep(),
    }
    judged = claims(found)
    print(report.write(found, judged, options.out))
    return 0 if all(claim.holds for claim in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
