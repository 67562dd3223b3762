"""`simdeep validate` where torch is missing; with torch see tests/validate."""

import subprocess
import sys

import pytest

from simdeep.errors import InputError
from simdeep.program.schedule import build_table
from simdeep.validate import Case, Runtime, run_cases


@pytest.fixture
def _no_torch(monkeypatch):
    monkeypatch.setattr("simdeep.validate.torch_extra.find_spec", lambda name: None)


@pytest.mark.usefixtures("_no_torch")
def test_without_torch_the_command_names_the_extra(cli):
    result = cli("validate", "schedule", "1f1b", code=2)
    assert result.stdout == ""
    assert "torch, which is not installed; install simdeep with its extra `torch`" in result.stderr
    assert "pip install 'simdeep[torch]'" in result.stderr


@pytest.mark.usefixtures("_no_torch")
def test_without_torch_nothing_is_started():
    with pytest.raises(InputError, match="extra `torch`"):
        run_cases([Case(build_table("1f1b", 2, 2), Runtime.SIMDEEP)])


def test_help_needs_no_torch(cli):
    assert "schedule" in cli("validate", "--help").stdout
    assert "--microbatches" in cli("validate", "schedule", "--help").stdout


def test_importing_validate_imports_no_torch():
    code = "import sys, simdeep.validate; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
