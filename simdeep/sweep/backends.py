"""Computes points on the local cores, a dask cluster or a ray cluster, all through joblib.

Rows come back as they are done, in any order. With one local job everything runs in this process.
Worker processes end with the sweep: by themselves if this process is killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdeep.errors import InputError, Problem
from simdeep.sweep.code import code_digest
from simdeep.sweep.evaluate import Row, evaluate
from simdeep.sweep.plan import Plan, Point

if TYPE_CHECKING:
    from simdeep.spec.scenario import Scenario

_CONNECT_S = 20
_WORKERS_S = 60
_WATCH_S = 1.0


class Backend(StrEnum):
    """Where points are computed."""

    loky = "loky"
    dask = "dask"
    ray = "ray"


@dataclass(frozen=True)
class Workers:
    """The backend, the local processes it may use, and where a dask scheduler is found."""

    backend: Backend = Backend.loky
    jobs: int = 1
    scheduler_file: Path | None = None

    def check(self) -> None:
        """Refuse what cannot work before anything is computed."""
        problems = []
        if self.jobs < 1:
            problems.append(Problem("--jobs", "", f"is {self.jobs}; must be 1 or more"))
        if self.backend is Backend.ray and find_spec("ray") is None:
            message = "ray is not installed: pip install ray, or use the local cores (loky)"
            problems.append(Problem("--backend ray", "", message))
        if self.backend is Backend.dask:
            problems += self._dask_problems()
        elif self.scheduler_file is not None:
            message = "goes with --backend dask"
            problems.append(Problem(f"--scheduler-file {self.scheduler_file}", "", message))
        if problems:
            raise InputError(problems)

    def _dask_problems(self) -> list[Problem]:
        if find_spec("distributed") is None:
            message = "dask is not installed: pip install 'simdeep[cluster]'"
            return [Problem("--backend dask", "", message)]
        if self.scheduler_file is None:
            message = "needs --scheduler-file, the file that dask scheduler --scheduler-file wrote"
            return [Problem("--backend dask", "", message)]
        if not self.scheduler_file.is_file():
            message = "no such file; start one: dask scheduler --scheduler-file FILE"
            return [Problem(f"--scheduler-file {self.scheduler_file}", "", message)]
        return []


def local_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute(plan: Plan, wanted: Iterable[Point], workers: Workers) -> Iterator[Row]:
    """Rows of points as they are done."""
    code = code_digest()
    if workers.backend is Backend.loky and workers.jobs == 1:
        for point in wanted:
            yield evaluate(plan.resolved(point), point.key, point.values, code)
        return
    from joblib import Parallel, delayed

    task = delayed(_in_local_worker if workers.backend is Backend.loky else evaluate)
    tasks = (task(plan.resolved(p), p.key, p.values, code) for p in wanted)
    with _OPEN[workers.backend](workers):
        if workers.backend is Backend.ray:  # ray's joblib backend cannot hand out single results
            yield from Parallel()(tasks)
            return
        with closing(Parallel(return_as="generator_unordered")(tasks)) as rows:
            yield from rows


@contextmanager
def _loky(workers: Workers) -> Iterator[None]:
    from joblib import parallel_config
    from joblib.externals.loky import get_reusable_executor

    try:
        with parallel_config("loky", n_jobs=workers.jobs, inner_max_num_threads=1):
            yield
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def _dask(workers: Workers) -> Iterator[None]:
    import logging

    from distributed import Client
    from joblib import parallel_config

    place = f"--scheduler-file {workers.scheduler_file}"
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors are told as ours
    with ExitStack() as stack:
        try:
            client = Client(  # type: ignore[no-untyped-call]
                scheduler_file=str(workers.scheduler_file),
                timeout=_CONNECT_S,
                set_as_default=False,
            )
            stack.callback(client.close)
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError([Problem(place, "", f"no dask cluster there: {error}")]) from error
        stack.enter_context(parallel_config("dask", client=client))
        yield


@contextmanager
def _ray(workers: Workers) -> Iterator[None]:
    from joblib import parallel_config
    from ray.util.joblib import register_ray

    register_ray()
    with parallel_config("ray"):
        yield


_OPEN: dict[Backend, Callable[[Workers], Any]] = {
    Backend.loky: _loky,
    Backend.dask: _dask,
    Backend.ray: _ray,
}


_settled = False


def _in_local_worker(scenario: Scenario, key: str, point: dict[str, str], code: str) -> Row:
    global _settled
    if not _settled:
        _settled = True
        _settle()
    return evaluate(scenario, key, point, code)


def _settle() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that is gone."""
    import signal
    import threading
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
