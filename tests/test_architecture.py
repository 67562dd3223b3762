"""Imports point back along the flow of data, and start-up imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import simdeep

ROOT = Path(simdeep.__file__).parent
ORDER = ["spec", "program", "cost", "engine", "network", "analysis", "serving", "report"]
ORDER += ["autoschedule", "api", "contributions", "traces", "planner", "sweep", "published"]
ORDER += ["calibrate", "validate", "cli"]
ANYWHERE = {"units", "errors", "jit", "__init__"}
# Prices are of programs and timelines hold priced programs, so cost knows programs, not schedules'
# outcomes; the report of a run reads what the API returns.
EXTRA = {("report", "api"), ("report", "contributions"), ("report", "planner")}


def area(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path):
    """Modules a file imports when it is executed, those under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_back(path):
    here = area(path)
    if here in ANYWHERE:
        return
    assert here in ORDER, f"{here} has no place in the order of packages"
    for module in imported(path):
        parts = module.split(".")
        if parts[0] != "simdeep" or len(parts) == 1:
            continue
        there = parts[1]
        allowed = there in ANYWHERE or (here, there) in EXTRA
        assert allowed or ORDER.index(there) <= ORDER.index(here), f"{path} imports {module}"


def test_start_up_imports_nothing_heavy():
    heavy = ["numpy", "pandas", "matplotlib", "numba", "pydantic", "simpy", "networkx"]
    heavy += ["bokeh", "scipy", "torch"]
    code = f"import sys, simdeep.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == "[]"
