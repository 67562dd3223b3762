"""Exit codes, and that nobody meets a traceback by accident."""

import io
import sys

import pytest

import simdeep.api
from simdeep.cli.app import main
from simdeep.errors import DeadlockError

BAD = {
    "unknown key": (["layout.pq=3"], "layout.pq"),
    "wrong unit": (["price.usd_per_gpu_hour=3 GiB"], "price.usd_per_gpu_hour"),
    "layers not divisible": (["layout.stages=[30,3]"], "layout.stages"),
    "PP odd for DualPipe": (
        ["train.schedule=dualpipe", "layout.pp=1", "layout.dp=4"],
        "must be even for dualpipe",
    ),
    "too few micro-batches": (["train.schedule=dualpipe", "train.gbs=4"], "train.gbs"),
    "EP not dividing": (["layout.ep=3"], "layout.ep"),
    "GPUs not matching": (["layout.dp=3"], "layout.dp"),
    "unknown schedule": (["train.schedule=gpipe2"], "train.schedule"),
    "not a number": (["train.gbs=.nan"], "train.gbs"),
}


@pytest.mark.parametrize(("changes", "text"), BAD.values(), ids=BAD)
def test_bad_values_exit_2_and_name_the_key(cli, scenarios, changes, text):
    sets = [part for change in changes for part in ("--set", change)]
    result = cli("run", scenarios["dense"], *sets, code=2)
    assert text in result.stderr
    assert result.stdout == ""


def test_every_problem_is_told_at_once(cli, scenarios):
    args = ("--set", "layout.pq=3", "--set", "train.seq_len=-1", "--set", "train.precision=fp9")
    result = cli("run", scenarios["dense"], *args, code=2)
    assert "3 problems" in result.stderr
    for key in ("layout.pq", "train.seq_len", "train.precision"):
        assert key in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty", b""), ("binary", b"\x00\xff\xfe\x01" * 50), ("text", b"just words")],
)
def test_bad_files_exit_2(cli, tmp_path, name, content):
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(content)
    assert str(path) in cli("run", path, code=2).stderr


def test_a_folder_or_nothing_is_no_scenario(cli, tmp_path):
    assert "directory" in cli("run", tmp_path, code=2).stderr
    assert "no such file" in cli("run", tmp_path / "none.yaml", code=2).stderr
    assert "did you mean" in cli("run", "dsv3-train-h80", code=2).stderr


@pytest.mark.parametrize(
    "args",
    [
        ["run"],
        ["run", "toy-dense", "--engine", "fast"],
        ["run", "toy-dense", "--nonsense"],
        ["walk"],
        ["schema", "poem"],
        ["show", "schedule", "1f1b", "--pp", "many"],
    ],
)
def test_bad_usage_exits_2(cli, args):
    assert cli(*args, code=2).stdout == ""


def test_a_set_without_a_value_exits_2(cli):
    result = cli("run", "toy-dense", "--set", "layout.pp", "--set", "=3", code=2)
    assert "2 problems" in result.stderr
    assert "--set layout.pp" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (DeadlockError("rank 0 waits for rank 1"), 1, "simdeep: rank 0 waits for rank 1"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_end_in_their_exit_code(cli, scenarios, monkeypatch, error, code, text):
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(simdeep.api, "simulate", fail)
    result = cli("run", scenarios["dense"], code=code)
    assert text in result.stderr
    if not text:
        assert result.stderr == ""
    if code == 1 and isinstance(error, ZeroDivisionError):
        assert "bug in simdeep" in result.stderr


def test_a_traceback_only_on_request(scenarios, monkeypatch, capsys):
    monkeypatch.setattr(simdeep.api, "simulate", lambda *args: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["simdeep", "run", scenarios["dense"]])
    monkeypatch.setenv("SIMDEEP_TRACEBACK", "1")
    with pytest.raises(SystemExit) as leaves:
        main()
    assert leaves.value.code == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_full_disk_behind_stdout_exits_2(scenarios, monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "argv", ["simdeep", "schema"])
    with pytest.raises(SystemExit) as leaves:
        main()
    assert leaves.value.code == 2
    assert "No space left" in capsys.readouterr().err
