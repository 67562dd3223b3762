"""The README's figures are what the program computes."""

import re
from pathlib import Path

import pytest

from simdeep import api
from simdeep.spec.scenario import load_scenario

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def table():
    """Rows of the accuracy table: first cell to the others."""
    rows = {}
    for line in README.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5:
            rows[cells[0]] = cells[1:]
    return rows


@pytest.fixture(scope="module")
def step():
    return api.simulate(load_scenario("dsv3-train-h800"))


def off(simulated: float, published: float) -> str:
    return f"{simulated / published - 1:+.1%}"


def test_pair(table):
    ms = api.simulate(load_scenario("dsv3-fb-pair-h800")).step_time_s * 1e3
    cells = table["overlapped pair of four MoE layers"]
    assert cells[:3] == [f"{ms:.1f} ms", "128.5 ms", off(ms, 128.5)]


def test_gpu_hours_and_days(table, step):
    hours = step.step_time_s * 2048 / 3600 * 1e12 / step.scenario.tokens_per_step
    cells = table["GPU-hours per trillion tokens"]
    assert cells[:3] == [f"{hours / 1e3:.1f} K", "180 K", off(hours, 180e3)]
    days = hours / 2048 / 24
    assert table["days per trillion tokens"][:3] == [f"{days:.2f}", "3.7", off(days, 3.7)]


def test_answer(step):
    """The sentence quoted is the one printed."""
    from simdeep.report.summary import headline

    quoted = re.search(r"(?m)(?:^> .*\n)+", README.read_text(encoding="utf-8"))
    text = " ".join(line.removeprefix("> ") for line in quoted[0].splitlines())
    assert text == headline(step)


def test_commands_are_two():
    assert README.read_text(encoding="utf-8").count("```sh\n") == 2
