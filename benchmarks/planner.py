"""Speed of the planner: bounds and full simulations a second, and a whole plan.

`python -m benchmarks.planner` prints the figures for DeepSeek-V3 on 2,048 H800s.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor

from simdeep import api
from simdeep.planner.candidates import enumerate_candidates
from simdeep.planner.plan import make_plan
from simdeep.planner.search import bound_all, price_table
from simdeep.planner.space import space_of
from simdeep.spec.scenario import Scenario, load_training

STEP = "dsv3-train-h800"
PLAN = "plan-dsv3-2048-h800"


def bounds_per_second(scenario: Scenario) -> tuple[int, float]:
    """Candidates, and how many closed-form bounds judge in a second, prices included."""
    candidates = enumerate_candidates([scenario], space_of(scenario))
    began = time.perf_counter()
    bound_all([scenario], candidates, price_table([scenario], candidates))
    return candidates.n, candidates.n / (time.perf_counter() - began)


def _simulate(seconds: float) -> int:
    scenario = load_training(STEP)
    api.step_time_s(scenario)
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        api.step_time_s(scenario)
        done += 1
    return done


def simulations_per_minute(workers: int = 2, seconds: float = 10.0) -> float:
    """Full simulations of the V3 step a minute on so many processes, each warmed up."""
    with ProcessPoolExecutor(workers) as pool:
        return sum(pool.map(_simulate, [seconds] * workers)) * 60.0 / seconds


def whole_plan(scenario: Scenario, jobs: int = 2) -> str:
    """A plan from start to end, in a line."""
    began = time.perf_counter()
    result = make_plan(scenario, jobs=jobs)
    took = time.perf_counter() - began
    pruned = ", ".join(f"{count:,} by {name}" for name, count in result.found.pruned.items())
    return (
        f"{result.candidates:,} candidates in {took:.0f} s: {pruned}, "
        f"{len(result.found.judged)} simulated, proved: {result.found.proved}"
    )


def main() -> None:
    """Print the figures."""
    scenario = load_training(PLAN)
    n, rate = bounds_per_second(scenario)
    print(f"bounds: {rate:,.0f} candidates a second ({n:,} candidates)")
    print(f"simulations of the V3 step on 2 processes: {simulations_per_minute():,.0f} a minute")
    print(whole_plan(scenario))


if __name__ == "__main__":
    main()
