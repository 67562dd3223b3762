"""A real browser without network, driven by the tests that look at reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1300,1000",
    # Nothing but the file itself: no name resolves, and no address answers.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
)


@contextmanager
def open_browser() -> Iterator:
    """Headless Chromium; where there is none the test is left out, but never in CI."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        message = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(120)
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()


def complaints(browser) -> list[str]:
    """Errors and warnings the console has shown since it was last asked."""
    return [e["message"] for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


def pixels(browser, path: Path):
    """The window as an array (height, width, 3) of 0 to 1."""
    from matplotlib.image import imread

    browser.save_screenshot(str(path))
    return imread(path)[:, :, :3]


def sound_page(browser, folder: Path, text: str) -> None:
    """A report opens without complaints, is not blank, and goes from light to dark and back."""
    from selenium.webdriver.common.by import By

    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    browser.get(path.as_uri())
    light = pixels(browser, folder / "light.png")
    browser.find_element(By.ID, "theme").click()
    dark = pixels(browser, folder / "dark.png")
    assert light.std() > 0.1
    assert light.mean() > 0.7
    assert dark.mean() < 0.4
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0
    assert complaints(browser) == []
