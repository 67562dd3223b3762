"""Help, version, progress, and a fast start."""

import subprocess
import sys
import time

import pytest

import simdeep
from simdeep.cli.options import Source
from simdeep.errors import InputError

HEAVY = ["numpy", "pandas", "matplotlib", "numba", "pydantic", "simpy", "networkx", "ruamel"]


def test_importing_the_command_line_imports_nothing_heavy():
    code = f"import sys, simdeep.cli; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_is_quick():
    def once() -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "simdeep.cli", "--help"], capture_output=True, check=True
        )
        return time.perf_counter() - began

    assert min(once() for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", ["run", "compare", "show", "schema"])
def test_every_command_is_in_the_help_and_has_its_own(cli, command):
    text = cli("--help").stdout
    assert f"\n  {command} " in text
    assert "Exit codes: 0 done" in text
    assert "Usage: " in cli(command, "--help").stdout


def test_version(cli):
    assert cli("--version").stdout == f"simdeep {simdeep.__version__}\n"


def test_sets_keep_what_follows_the_first_equals():
    source = Source.of("x", ["a.b=c=d", " e =", "a.b=last"])
    assert source.overrides == {"a.b": "last", "e": ""}
    with pytest.raises(InputError, match="write a key"):
        Source.of("x", ["=1"])


def test_progress_only_on_a_terminal_and_unless_quiet(cli, scenarios, monkeypatch):
    assert cli("run", scenarios["pair"]).stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    engine = ("--engine", "reference")
    shown = cli("run", scenarios["dense"], *engine)
    assert "simulating" in shown.stderr
    assert "simulating" not in shown.stdout
    assert cli("run", scenarios["dense"], *engine, "--quiet").stderr == ""
