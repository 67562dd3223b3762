"""Reports as files, and as a person sees them in a browser."""

from dataclasses import replace

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from simdeep import api
from simdeep.contributions import contributions
from simdeep.report.html import Extras, step_report
from simdeep.report.summary import headline
from simdeep.spec.scenario import load_scenario
from tests.report.browser import complaints, open_browser, pixels
from tests.report.static import read_static


@pytest.fixture(scope="module")
def step():
    scenario = load_scenario("dsv3-train-h800")
    return api.simulate(scenario), Extras(effects=contributions(scenario))


@pytest.fixture(scope="module")
def small():
    return api.simulate(load_scenario("toy-dense"))


@pytest.fixture(scope="module")
def step_file(step, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "step.html"
    path.write_text(step_report(*step), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


def drawn(browser):
    """How the timeline is drawn now, and how many spans are in view."""
    plot = browser.find_element(By.ID, "timeline-plot")
    return plot.get_attribute("data-drawn"), int(plot.get_attribute("data-count") or 0)


def opened(browser, path):
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: drawn(b)[0])
    # Two frames later what was drawn is on the screen.
    browser.execute_async_script(
        "const f = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => f()))"
    )


def test_one_file_that_needs_nothing_else(step, step_file):
    text = step_file.read_text(encoding="utf-8")
    assert step_file.stat().st_size < 6e6
    page = read_static(text)
    assert page.fetched == ["data:,"]
    said = page.said
    result = step[0]
    assert headline(result) in said
    assert result.scenario.fingerprint in said
    for part in ("Where the time goes", "What each effect contributes", "What shaped this answer"):
        assert part in said
    assert len(page.ids) == len(set(page.ids))


def test_the_same_result_gives_the_same_file(small):
    again = api.simulate(load_scenario("toy-dense"))
    assert step_report(small) == step_report(again)


def test_what_a_scenario_says_cannot_become_markup(small, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    odd = replace(small, scenario=replace(small.scenario, name=name))
    assert read_static(step_report(odd)).fetched == ["data:,"]


def test_the_step_in_a_browser(browser, step, step_file, tmp_path):
    opened(browser, step_file)
    assert complaints(browser) == []
    how, many = drawn(browser)
    assert how == "bins"
    assert many > 30_000
    whole = pixels(browser, tmp_path / "whole.png")
    assert whole.std() > 0.1

    browser.execute_script("document.getElementById('timeline').scrollIntoView()")
    plot = browser.find_element(By.ID, "timeline-plot")
    before = pixels(browser, tmp_path / "plot.png")
    origin = ActionChains(browser)
    for _ in range(14):
        origin.scroll_from_origin(ScrollOrigin.from_element(plot), 0, -400)
    origin.perform()
    WebDriverWait(browser, 30).until(lambda b: drawn(b)[0] == "spans")
    assert 0 < drawn(browser)[1] <= 30_000
    browser.execute_async_script(
        "const f = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => f()))"
    )
    zoomed = pixels(browser, tmp_path / "zoomed.png")
    assert abs(zoomed - before).mean() > 0.01

    browser.find_element(By.ID, "reset").click()
    assert drawn(browser) == ("bins", many)
    assert complaints(browser) == []


def test_switches_colours_and_hover(browser, small, tmp_path):
    path = tmp_path / "small.html"
    path.write_text(step_report(small), encoding="utf-8")
    opened(browser, path)
    how, spans = drawn(browser)
    assert how == "spans"

    browser.find_element(By.ID, "idle").click()
    assert drawn(browser)[1] < spans
    browser.find_element(By.ID, "idle").click()
    legend = browser.find_element(By.ID, "timeline-legend").text
    assert "forward (F)" in legend
    Select(browser.find_element(By.ID, "colour")).select_by_value("component")
    assert "attention" in browser.find_element(By.ID, "timeline-legend").text

    before = pixels(browser, tmp_path / "a.png")
    browser.find_element(By.ID, "critical").click()
    browser.execute_async_script(
        "const f = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => f()))"
    )
    red = pixels(browser, tmp_path / "b.png") - before
    assert (abs(red).sum(axis=2) > 0.3).any()

    # The pointer over the first long forward names it.
    plot = browser.find_element(By.ID, "timeline-plot")
    browser.execute_script("arguments[0].scrollIntoView()", plot)
    place = browser.execute_script(
        "const f = simdeepTimeline.figure, r = document.getElementById('timeline-plot')"
        ".getBoundingClientRect(); return [r.width, r.height]"
    )
    ActionChains(browser).move_to_element_with_offset(plot, 0, int(-place[1] / 2 + 60)).perform()
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script(
            "const found = []; const walk = (n) => { if (n.shadowRoot) walk(n.shadowRoot);"
            " for (const c of n.children || []) { if (c.classList &&"
            " c.classList.contains('bk-Tooltip')) found.push(c.shadowRoot.textContent);"
            " walk(c); } }; walk(document.body); return found.join(' ')"
        ).count("booked as")
    )
    assert complaints(browser) == []


def test_dark_and_light(browser, small, tmp_path):
    path = tmp_path / "small.html"
    path.write_text(step_report(small), encoding="utf-8")
    opened(browser, path)
    light = pixels(browser, tmp_path / "light.png")
    browser.find_element(By.ID, "theme").click()
    dark = pixels(browser, tmp_path / "dark.png")
    assert light.mean() > 0.7
    assert dark.mean() < 0.4
