"""The gallery in `reports/`: shipped scenarios, each with its command, its figures and its charts.

    python -m benchmarks.gallery [NAME]...         makes reports/gallery.md, .json and the pictures
    python -m benchmarks.gallery --check [NAME]... runs the commands again and compares the figures

Figures are read from what the commands print with `--json`; `--check` compares them to a part in a
million and says which drifted (exit 1). The documentation quotes `reports/gallery.json`, which a
test compares with it, so that a figure that drifts fails in CI wherever it stands.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.entries import GALLERY, At, Entry

REPORTS = Path(__file__).parents[1] / "reports"
PICTURES = REPORTS / "gallery"
NUMBERS = REPORTS / "gallery.json"

Kept = dict[str, dict[str, Any]]
"""Of each entry: `command`, `figures`, and `check` (figures of its shorter form) if it has one."""


def run(words: Sequence[str], allowed_exits: Sequence[int], out: Path | None = None) -> Any:
    """What a command of simdeep prints with `--json`; its files go into `out`.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "simdeep.cli", *words, "--json"]
    if out is not None:
        command += ["--out", str(out)]
    with tempfile.TemporaryDirectory() as folder:
        if words[0] == "sweep":
            command += ["--store", str(Path(folder) / "store.jsonl")]
        one = {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | one
        )
    if done.returncode not in allowed_exits:
        raise RuntimeError(f"{shown(words)}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def shown(words: Sequence[str]) -> str:
    """The command as a reader types it."""
    return shlex.join(("simdeep", *words))


def read(wanted: Mapping[str, At], answer: Any) -> dict[str, float]:
    """Figures of a command's answer."""
    return {label: place.read(answer) for label, place in wanted.items()}


def drifts(
    name: str, now: Mapping[str, float], before: Mapping[str, float], command: str
) -> Iterator[str]:
    """What differs between two runs of an entry by more than a part in a million."""
    for label in sorted(now.keys() | before.keys()):
        a, b = before.get(label), now.get(label)
        if a is None or b is None or abs(a - b) > 1e-6 * max(abs(a), abs(b)):
            yield f"{name}: {label} was {a}, is {b} ({command})"


def make(names: Sequence[str]) -> None:
    """Run everything, or the entries named, and write the gallery with what was there of others."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    kept: Kept = json.loads(NUMBERS.read_text(encoding="utf-8")) if names else {}
    for entry in chosen(names):
        print(shown(entry.command), file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out" if entry.charts else None
            answer = run(entry.command, entry.allowed_exits, out)
            for chart in entry.charts:
                shutil.copy(Path(folder) / "out" / chart, PICTURES / f"{entry.name}-{chart}")
        found = {"command": shown(entry.command), "figures": figures(entry, answer)}
        if entry.shorter:
            found["check"] = figures(entry, run(checked(entry), entry.allowed_exits))
        # Written after each entry: what is done stays done if a later one fails.
        kept[entry.name] = found
        NUMBERS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (REPORTS / "gallery.md").write_text(page(kept), encoding="utf-8")


def chosen(names: Sequence[str]) -> list[Entry]:
    """The entries named, or all.

    Raises:
        SystemExit: there is no such entry.
    """
    known = [entry.name for entry in GALLERY]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no entry {', '.join(unknown)}; there are {', '.join(known)}")
    return [entry for entry in GALLERY if not names or entry.name in names]


def checked(entry: Entry) -> tuple[str, ...]:
    """The command that `--check` runs."""
    return entry.command + entry.shorter


def figures(entry: Entry, answer: Any) -> dict[str, float]:
    """All that is kept of an answer."""
    return read(entry.figures, answer) | read(entry.quoted, answer)


def page(kept: Kept) -> str:
    """The gallery as Markdown: every entry that was run, with its command."""
    lines = [
        "# Gallery",
        "",
        "Made by `python -m benchmarks.gallery` from the shipped scenarios; CI runs the commands",
        "again and fails when a figure drifts (`python -m benchmarks.gallery --check`).",
        "",
    ]
    for entry in sorted(GALLERY, key=lambda entry: not entry.charts):
        if entry.name in kept and {*entry.figures} <= {*kept[entry.name]["figures"]}:
            lines += _section(entry, kept[entry.name]["figures"])
    return "\n".join(lines)


def _section(entry: Entry, found: Mapping[str, float]) -> Iterator[str]:
    out = " --out out" if entry.charts else ""
    yield from (f"## {entry.title}", "")
    if entry.about:
        yield from (entry.about, "")
    yield from (f"    {shown(entry.command)}{out}", "")
    if entry.shorter:
        yield from (f"CI checks a shorter form: `{shown(checked(entry))}`.", "")
    yield from ("| figure | value |", "|---|---|")
    yield from (f"| {label} | {found[label]:,.6g} |" for label in entry.figures)
    yield ""
    if more := len(entry.quoted):
        yield from (f"{more} more figures of it, in `gallery.json`, feed `docs/`.", "")
    for chart in entry.charts:
        yield from (f"![{entry.title}: {chart}](gallery/{entry.name}-{chart})", "")


def check(names: Sequence[str]) -> int:
    """Run entries again, two at a time; how many figures drifted."""
    kept: Kept = json.loads(NUMBERS.read_text(encoding="utf-8"))
    with ThreadPoolExecutor(2) as pool:
        # The long ones are at the end; started first, they leave no core idle.
        found = list(pool.map(lambda entry: _checked(entry, kept), reversed(chosen(names))))
    wrong = [line for lines in found for line in lines]
    print("\n".join(wrong) or f"{len(found)} entries, every figure as committed")
    return len(wrong)


def _checked(entry: Entry, kept: Kept) -> list[str]:
    started = time.monotonic()
    if entry.name not in kept:
        return [f"{entry.name}: never made; run python -m benchmarks.gallery {entry.name}"]
    before = kept[entry.name]["check" if entry.shorter else "figures"]
    command = shown(checked(entry))
    now = figures(entry, run(checked(entry), entry.allowed_exits))
    print(f"{time.monotonic() - started:6.1f} s  {command}", file=sys.stderr)
    return list(drifts(entry.name, now, before, command))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        sys.exit(1 if check(sys.argv[2:]) else 0)
    make(sys.argv[1:])
