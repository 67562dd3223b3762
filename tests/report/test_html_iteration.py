"""Reports of serving scenarios without traffic: an iteration of each unit."""

from dataclasses import replace

import numpy as np
import pytest

from simdeep.cli.options import Source
from simdeep.program.columns import Kind
from simdeep.report.charts import iteration as charts
from simdeep.report.html import iteration_page
from simdeep.report.serving_inputs import serving_inputs
from simdeep.report.serving_iteration import looked_at
from tests.report.browser import open_browser, sound_page
from tests.report.static import read_static


@pytest.fixture(scope="module")
def seen():
    scenario = Source.of("dsv3-decode-h100-12nodes", None, None).load_any()
    return scenario, looked_at(scenario)


def test_both_units_are_shown_with_their_inputs(seen):
    scenario, found = seen
    page = read_static(iteration_page(scenario, found))
    assert page.fetched == ["data:,"]
    assert page.drawings == 6
    assert len(page.ids) == len(set(page.ids))
    for role, (look, memory) in found.items():
        assert f"A {role} iteration of" in page.said
        assert f"{memory.kv_capacity_tokens:,} tokens" in page.said
        assert f"{look.exposed_comm_s / look.seconds:.1%}" in page.said
    for item in serving_inputs(scenario):
        assert item.source in page.said
    assert scenario.fingerprint in page.said


def test_the_same_scenario_gives_the_same_page(seen):
    scenario, found = seen
    assert iteration_page(scenario, looked_at(scenario)) == iteration_page(scenario, found)


def test_every_part_has_a_meaning(seen):
    from simdeep.report.html.iteration import _MEANING

    for look, _ in seen[1].values():
        assert {*look.timeline.program.components} == {*_MEANING}


def test_streams_show_what_ran_and_parts_what_it_took(seen):
    for look, memory in seen[1].values():
        timeline = look.timeline
        ax = charts.iteration_streams(timeline)
        rows = np.flatnonzero((timeline.program.rank == 0) & (timeline.program.kind != Kind.SYNC))
        longest = (timeline.end_ns - timeline.start_ns)[rows].max()
        assert 0 < max(bar.get_width() for bar in ax.patches) <= longest
        assert ax.get_xlabel().startswith("time from the start of layer ")
        parts = {name: (value, "compute") for name, value in look.parts.items() if value}
        bars = charts.iteration_parts(parts, look.seconds).patches
        widths = [bar.get_width() for bar in bars]
        assert widths == sorted(widths, reverse=True)
        filled = charts.unit_memory({"KV cache": 30.0, "weights": 20.0}, 80.0)
        assert [bar.get_width() for bar in filled.patches] == [30.0, 20.0, 30.0]
        assert memory.capacity > 0


def test_names_cannot_become_markup(seen):
    scenario, found = seen
    odd = replace(scenario, name="<img src=x onerror=alert(1)>")
    assert read_static(iteration_page(odd, found)).fetched == ["data:,"]


def test_the_page_in_a_browser(seen, tmp_path):
    with open_browser() as browser:
        sound_page(browser, tmp_path, iteration_page(*seen))
