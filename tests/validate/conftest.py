"""Only where torch is installed. One run of all tables serves all tests: starting takes long."""

from __future__ import annotations

import importlib.util
import multiprocessing

import pytest

from simdeep.validate import Case, Outcome, Runtime, run_cases, torch_problems
from tests.validate.tables import by_hand, of_registry

collect_ignore_glob = ["test_torch_*.py"] if importlib.util.find_spec("torch") is None else []

TIMEOUT_S = 120.0


@pytest.fixture(scope="session")
def outcomes() -> dict[tuple[str, Runtime], Outcome]:
    """Every table in every runtime that can run it."""
    found = {}
    for tables in (of_registry(), by_hand()):
        cases = {
            (name, runtime): Case(table, runtime)
            for name, table in tables.items()
            for runtime in Runtime
            if runtime is Runtime.SIMDEEP or not torch_problems(table)
        }
        run = run_cases(list(cases.values()), timeout_s=TIMEOUT_S)
        found |= dict(zip(cases, run, strict=True))
    return found


@pytest.fixture(autouse=True)
def _nothing_left_running():
    yield
    assert multiprocessing.active_children() == []
