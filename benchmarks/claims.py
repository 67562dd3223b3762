"""What the engine promises, beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

LINEAR_WITHIN = 0.15
"""How far the exponent of CPU time over tasks may be from 1."""


@dataclass(frozen=True)
class Claim:
    """A figure and what it must be."""

    what: str
    found: float
    bound: float
    at_least: bool
    unit: str

    @property
    def holds(self) -> bool:
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    @property
    def ratio(self) -> float:
        """How far on the right side: 2 is twice as good as promised."""
        return self.found / self.bound if self.at_least else self.bound / self.found

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "holds": self.holds, "ratio": self.ratio}


def exponent(rows: list[dict[str, Any]]) -> float:
    """Least-squares slope of log CPU time over log tasks: 1 is linear."""
    points = [(log(row["tasks"]), log(row["compiled_cpu_s"])) for row in rows]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def claims(found: dict[str, Any]) -> list[Claim]:
    """Every claim that the measurements can judge."""
    folded = found["engines"][0]
    made = [
        Claim("compiled over reference, folded step", folded["ratio"], 50, True, "x"),
        Claim("tasks a second, folded step", folded["compiled_tasks_per_s"], 2e6, True, "/s"),
    ]
    for row in found["whole"]:
        gpus, seconds = row["gpus"], row["simulate_s"]
        bound = 60 if gpus > 256 else 8
        made.append(Claim(f"simulate, all {gpus:,} GPUs", seconds, bound, False, "s"))
        made.append(Claim(f"memory, all {gpus:,} GPUs", row["peak_gib"], 12, False, "GiB"))
    if row := found.get("sweep"):
        made += [
            Claim(f"sweep, {row['points']:,} points, 2 workers", row["speed_up"], 1.8, True, "x"),
            Claim("rerun of the finished sweep", row["rerun_s"], 2, False, "s"),
        ]
    for row in found["unfolded"]:
        speed = row["compiled_tasks_per_s"]
        made.append(Claim(f"tasks a second, all {row['gpus']:,} GPUs", speed, 2e6, True, "/s"))
    every = sorted(found["by_microbatches"] + found["by_gpus"], key=lambda row: int(row["tasks"]))
    least, most = every[0]["tasks"], every[-1]["tasks"]
    what = f"exponent of CPU time over tasks, {least:.0e} to {most:.0e}, off linear by"
    made.append(Claim(what, abs(exponent(every) - 1), LINEAR_WITHIN, False, ""))
    return made
