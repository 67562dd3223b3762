"""Reading published runs: fields, times, halves, and files that are wrong."""

import hashlib
import json

import pytest

from simdeep.errors import InputError
from simdeep.published.cases import family_of, half_of, load_cases

CASES = {case.id: case for case in load_cases()}


def test_all_shipped_runs_are_read():
    assert len(CASES) == 422
    assert sum(case.is_rate for case in CASES.values()) == 92


def test_the_half_hangs_on_the_id_alone():
    for name, case in CASES.items():
        parity = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2
        assert case.half == half_of(name) == ("test" if parity else "fit")


def test_times_by_hand():
    # 300e9 tokens in 84 days, 1,536 sequences of 2,048 tokens a step.
    steps = 300e9 / (1536 * 2048)
    found = CASES["megatron-sc21-t2-174.6B-PTD-384"].measured_s
    assert found == pytest.approx(84 * 86400 / steps, rel=0.01)
    assert CASES["vtrain-175B-tp8-dp2-pp32-mb3"].measured_s == pytest.approx(57.3244)
    # 512 tokens a GPU-second: 16 sequences of 8,192 on 8 GPUs at 6,667.
    assert CASES["torchtitan-8b-8-compile"].measured_s == pytest.approx(16 * 8192 / (6667 * 8))
    assert CASES["zb-1.5B-m24-1f1b"].measured_bytes == 30 * 2**30
    assert CASES["torchtitan-8b-8-compile"].measured_bytes == 77 * 2**30


def test_families_by_prefix():
    assert family_of("megatron-sc21-t2-529.6B-PTD-560") == "megatron-sc21-t2"
    assert family_of("zbv-bubble-6.2B-m48-1f1b") == "zero-bubble-v-rates"
    assert family_of("mine-1") == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpus": None}, "lacks gpus"),
        ({"tp": 0}, "is 0; must be a whole number from 1 on"),
        ({"model": 3}, "must be an object with sizes"),
        ({"measured": {"iter_time": {"value": 1, "unit": "h"}}}, "unit 'h'; must be one of ms, s"),
        ({"measured": {"iter_time": {"value": -1, "unit": "s"}}}, "a value above 0"),
    ],
)
def test_a_wrong_run_is_named(tmp_path, change, words):
    run = {
        "id": "mine-1",
        "source": "me",
        "hardware": "A100",
        "gpus": 8,
        "model": {"layers": 2},
        "seq_len": 8,
        "measured": {"iter_time": {"value": 1, "unit": "s"}},
    }
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([run | change, run | change | {"id": "mine-2"}]))
    with pytest.raises(InputError) as caught:
        load_cases(path)
    assert len(caught.value.problems) == 2
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_not_a_list_of_runs(tmp_path, text):
    path = tmp_path / "runs.json"
    path.write_text(text)
    with pytest.raises(InputError):
        load_cases(path)


def test_two_runs_of_one_id(tmp_path):
    run = dict.fromkeys(("gpus", "seq_len"), 1) | {
        "id": "a",
        "source": "s",
        "hardware": "h",
        "model": {"layers": 1},
        "measured": {"iter_time": {"value": 1, "unit": "s"}},
    }
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([run, run]))
    with pytest.raises(InputError, match="earlier run"):
        load_cases(path)
