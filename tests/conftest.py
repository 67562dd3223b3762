"""What every test module leaves behind: nothing."""

import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_workers_left():
    """joblib keeps its processes for the next call; the next module counts processes."""
    yield
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = None if loky is None else loky._executor
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)
