"""No figure of the documentation without a command, and none that has drifted from it.

A page's figures are those that `tests/quotes.py` writes anew from committed results, and those
listed in `tests/given_figures.txt`: settings, definitions, and what others published or what was
measured by hand. Whoever changes a number in a page fails here, whichever it is.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks import gallery
from benchmarks.entries import GALLERY
from tests.quotes import QUOTES

ROOT = Path(__file__).parents[1]
GIVEN = Path(__file__).parent / "given_figures.txt"
#: Made from the schemas and compared with them by another test.
GENERATED = {"docs/reference.md"}
PAGES = [
    name
    for name in ("README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))))
    if name not in GENERATED
]

_UNITS = (
    "times|x|%|ns|us|ms|s|minutes|hours|days|K|M|GiB|GB|GB/s|GFLOP/s|TFLOP/s|MHz|W|pJ|Mtoken/s|"
    "tokens/s|GPU-hours"
)
_NUMBER = re.compile(rf"(?<![\w.,/:-])[-+±~]?\$?\d[\d,]*(?:\.\d+)?(?: ?(?:{_UNITS})(?![\w/]))?")


def flat(text: str) -> str:
    """Text with every gap one space, as a reader sees it."""
    return re.sub(r"\s+", " ", text)


def figures(text: str, quoted: Iterable[str] = ()) -> list[str]:
    """Numbers in a page's text with a fraction, a unit or in the thousands, quotes left out."""
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = flat(re.sub(r"(?m)^#.*$", " ", text))
    for said in sorted(quoted, key=len, reverse=True):
        text = text.replace(said, " ")
    for pattern in (r"sec(?:tion)? [\d.]+", r"`[^`]*`", r"\]\([^)]*\)", r"\b\d{4}\.\d{5}\b"):
        text = re.sub(pattern, " ", text)
    found = (match.group().rstrip(",") for match in _NUMBER.finditer(text))
    return [number for number in found if re.search(r"[^\d+~±-]", number)]


def given() -> dict[str, list[str]]:
    """Figures of each page that no command makes."""
    found = {}
    for line in GIVEN.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            page, _, numbers = line.partition(": ")
            found[page] = numbers.split(" | ")
    return found


@pytest.mark.parametrize("page", QUOTES)
def test_figures_are_those_of_the_committed_results(page):
    text = flat((ROOT / page).read_text(encoding="utf-8"))
    wrong = [said for _, said in QUOTES[page]() if said not in text]
    assert not wrong, f"{page} must say: " + "\n".join(wrong)
    missing = {command for command, _ in QUOTES[page]() if command not in text}
    assert not missing, f"{page} has figures of these commands and does not name them: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_other_figures_are_listed(page):
    """Mend by listing them as printed here, if they are settings, definitions or published."""
    quotes = [said for _, said in QUOTES[page]()] if page in QUOTES else []
    found = figures((ROOT / page).read_text(encoding="utf-8"), quotes)
    assert found == given().get(page, []), f"\n{page}: {' | '.join(found)}"


def test_the_gallery_is_what_its_figures_say():
    kept = gallery.json.loads(gallery.NUMBERS.read_text(encoding="utf-8"))
    assert list(kept) == sorted(entry.name for entry in GALLERY)
    assert (gallery.REPORTS / "gallery.md").read_text(encoding="utf-8") == gallery.page(kept)
    for entry in GALLERY:
        assert kept[entry.name]["command"] == gallery.shown(entry.command)
        assert {*kept[entry.name]["figures"]} == {*entry.figures, *entry.quoted}
        for chart in entry.charts:
            assert (gallery.PICTURES / f"{entry.name}-{chart}").stat().st_size > 10_000
    wanted = {f"{entry.name}-{chart}" for entry in GALLERY for chart in entry.charts}
    assert {path.name for path in gallery.PICTURES.iterdir()} == wanted


def test_a_drift_is_found():
    before = {"step (s)": 2.0, "gone": 1.0}
    assert not [*gallery.drifts("x", before, before, "simdeep run x")]
    found = [*gallery.drifts("x", {"step (s)": 2.00001, "new": 1.0}, before, "simdeep run x")]
    assert found[-1] == "x: step (s) was 2.0, is 2.00001 (simdeep run x)"
    assert len(found) == 3


def test_numbers_are_found_in_text():
    text = "# 1.5 GB\nA step takes 19.8 s, -6.8%\nof `2.5 s`; 2,048 H800s at $2; 3 of EP64, arXiv "
    assert figures(text + "2412.19437 [a](b-1.5)") == ["19.8 s", "-6.8%", "2,048", "$2"]
