"""Orders against those that torch 2.13 executes, stored by tests/data/make_torch_schedules.py."""

import csv
import hashlib
from pathlib import Path

import pytest

from simdeep.program.schedule import build_table, check, from_csv, to_csv

FOLDER = Path(__file__).parents[1] / "data" / "torch_schedules"
with (FOLDER / "digests.csv").open() as file:
    CASES = [tuple(row.values()) for row in csv.DictReader(file)]
WHOLE = sorted(path for path in FOLDER.glob("*-v?.csv"))


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_small_orders_are_torchs_cell_by_cell(path):
    name, size, vpp = path.stem.rsplit("-", 2)
    pp, microbatches = map(int, size.split("x"))
    table = build_table(f"Schedule{name}", pp, microbatches, int(vpp[1:]))
    assert to_csv(table).splitlines() == path.read_text().splitlines()
    assert from_csv(path.read_text(), name=table.name) == table


@pytest.mark.parametrize(("name", "pp", "microbatches", "vpp", "sha256"), CASES)
def test_every_order_has_the_digest_of_torchs(name, pp, microbatches, vpp, sha256):
    table = build_table(name, int(pp), int(microbatches), int(vpp))
    assert hashlib.sha256(to_csv(table).encode()).hexdigest() == sha256
    check(table)


def test_what_is_stored():
    sizes = {(name, int(pp)) for name, pp, *_ in CASES}
    names = ("Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")
    assert sizes >= {(name, pp) for name in names for pp in (4, 8, 16)}
    assert {int(row[2]) for row in CASES} >= {8, 20, 64, 120}
