"""Reports of serving deployments and all-to-alls, as files and in a browser."""

from dataclasses import replace

import pytest

from simdeep.network import DIRECTIONS, Flags, prepare, read_setting, run_direction
from simdeep.report.html import alltoall_page, serving_page
from simdeep.report.serving_inputs import serving_inputs
from simdeep.report.serving_summary import serving_headline
from simdeep.serving.simulate import simulate_serving
from simdeep.spec.scenario import load_scenario
from tests.report.browser import open_browser, sound_page
from tests.report.static import read_static

SHORT = {"window.duration": "30 s", "window.warmup": "10 s"}


@pytest.fixture(scope="module")
def served():
    return simulate_serving(load_scenario("llama70b-serve-h100", SHORT))


@pytest.fixture(scope="module")
def moved():
    setting = read_setting(None, None, Flags(ep=16, tokens=32))
    routed = prepare(setting)
    return [run_direction(setting, routed, direction) for direction in DIRECTIONS]


def test_a_serving_page_says_what_the_console_says_and_fetches_nothing(served):
    page = read_static(serving_page(served))
    assert page.fetched == ["data:,"]
    assert serving_headline(served) in page.said
    assert served.limit.sentence in page.said
    assert served.scenario.fingerprint in page.said
    for title in ("What users see", "What limits it", "How busy", "Throughput and cost"):
        assert title in page.said
    for item in serving_inputs(served.scenario):
        assert item.source in page.said
    assert len(page.ids) == len(set(page.ids))
    assert page.drawings == 6
    assert "Engine:" not in page.said  # the time this very run took is no part of a report


def test_the_same_scenario_gives_the_same_serving_page(served):
    again = simulate_serving(load_scenario("llama70b-serve-h100", SHORT))
    assert serving_page(again) == serving_page(served)


def test_sources_say_what_was_carried_over_from_another_gpu(served):
    rows = {item.name: item for item in serving_inputs(served.scenario)}
    assert rows["GEMM times"].value == "scaled from measurements of another GPU"
    assert "scaled to h100" in rows["GEMM times"].source
    assert "expert popularity" not in rows
    moe = {item.name: item for item in serving_inputs(load_scenario("dsv3-serve-h800"))}
    assert moe["GEMM times"].value == "measured"
    assert "expert popularity" in moe
    assert moe["price"].source.startswith("topology: ")
    paid = load_scenario("dsv3-serve-h800", {"price.usd_per_gpu_hour": "3.5"})
    assert serving_inputs(paid)[-1].source == "scenario"


def test_charts_keep_every_digit_of_their_texts(served):
    cost = read_static(serving_page(served)).said
    for side in ("input", "output"):
        value = getattr(served.figures, f"usd_per_mtok_{side}")
        assert f"${value:.3g} " in cost.replace("\n", " ")


def test_names_of_a_serving_scenario_cannot_become_markup(served):
    name = "<img src=x onerror=alert(1)>"
    odd = replace(served, scenario=replace(served.scenario, name=name))
    assert read_static(serving_page(odd)).fetched == ["data:,"]


def test_an_alltoall_page_shows_traffic_and_ports_of_both_directions(moved):
    text = alltoall_page("<img src=x>", moved)
    page = read_static(text)
    assert page.fetched == ["data:,"]
    assert page.drawings == 4
    assert "Hot ports (first draw)" in page.said
    assert len(page.ids) == len(set(page.ids))
    assert alltoall_page("<img src=x>", moved) == text


def test_both_pages_in_a_browser(served, moved, tmp_path):
    with open_browser() as browser:
        sound_page(browser, tmp_path, serving_page(served))
        sound_page(browser, tmp_path, alltoall_page("all-to-all", moved))
