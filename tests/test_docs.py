"""The documentation is true: snippets run, the reference is what the schemas say."""

import re
import shlex
from pathlib import Path

import pytest

from simdeep.spec.reference import reference
from tests.cli.conftest import Cli

DOCS = Path(__file__).parents[1] / "docs"
RUNNABLE = ("guide.md", "extending.md")


@pytest.fixture
def cli(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    return Cli()


@pytest.mark.parametrize("name", RUNNABLE)
def test_snippets_run_in_order(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL)
    assert snippets
    space: dict = {"__name__": name}
    for snippet in snippets:
        exec(compile(snippet, name, "exec"), space)
    assert capsys.readouterr().out


def test_reference_is_what_the_schemas_say():
    """Mend with: simdeep schema KIND --markdown, of scenario, topology and gpu."""
    text = (DOCS / "reference.md").read_text("utf-8")
    for kind in ("scenario", "topology", "gpu"):
        assert reference(kind) in text


def test_links_between_pages_lead_somewhere():
    root = DOCS.parent
    for page in (*DOCS.glob("*.md"), root / "README.md"):
        for path in re.findall(
            r"`((?:docs|reports|scenarios|topologies)/[\w./-]+)`", page.read_text("utf-8")
        ):
            assert (root / path).exists(), f"{page.name} names {path}"


PAGES = (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md")))
SHOWN = [
    (page.name, *block.split("\n", 1))
    for page in PAGES
    for block in re.findall(r"```console\n\$ simdeep (.*?)```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "command", "shown"), SHOWN)
def test_output_shown_is_what_is_printed(page, command, shown, cli):
    """A console block is a command and how its output begins, to the letter."""
    printed = [line.rstrip() for line in cli(*shlex.split(command)).stdout.splitlines()]
    expected = shown.rstrip("\n").split("\n")
    assert printed[: len(expected)] == expected, page


def test_the_readme_has_two_commands_and_their_output():
    assert (DOCS.parent / "README.md").read_text(encoding="utf-8").count("```sh\n") == 2
    assert "README.md" in [page for page, *_ in SHOWN]


def test_a_result_shows_itself_in_a_notebook():
    from simdeep.api import simulate
    from simdeep.report.summary import headline
    from simdeep.spec.scenario import load_scenario

    result = simulate(load_scenario("toy-dense"))
    shown = result._repr_html_()
    assert headline(result) in shown
    assert shown.count("<table>") >= 3
    assert (result.parts().sum(axis=1) - result.step_time_s).abs().max() < 1e-9
    assert len(result.spans()) == result.timeline.program.n
