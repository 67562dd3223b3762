"""Files of component times: read back, and refused where they do not hold. Without torch."""

import dataclasses

import pytest

from simdeep.errors import InputError
from simdeep.validate.hooks.device import Device
from simdeep.validate.hooks.file import read_measurement, to_plain, write_measurement
from simdeep.validate.hooks.measurement import Component, Measurement, Spread

HERE = Device("cpu", "Some CPU, 2 cores", 1, "2.13.0", "3.11.7")


def measured() -> Measurement:
    times = [Spread(n * 1e-6, n * 0.5e-6, n * 2e-6) for n in (10, 20, 30, 40)]
    parts = (
        Component(None, "embed", 1, 8, *times, saved_bytes=64, parameter_bytes=100),
        Component(3, "mlp.experts", 4, 16, *times, saved_bytes=32, parameter_bytes=200),
    )
    whole = (Spread(40e-6, 30e-6, 50e-6), Spread(100e-6, 90e-6, 110e-6))
    return Measurement("m", HERE, "float32", ((2, 4),), 5, *whole, parts, 7, 300)


def test_a_file_reads_back(tmp_path):
    path = tmp_path / "components.yaml"
    write_measurement(path, measured())
    assert to_plain(read_measurement(path, HERE)) == to_plain(measured())
    assert to_plain(measured())["components"][1]["F_us"] == {
        "median": 10.0,
        "low": 5.0,
        "high": 20.0,
    }


def test_sums():
    assert measured().saved_bytes == 64 + 32 + 7
    assert measured().covered == pytest.approx((20 / 40, 80 / 100))
    assert Spread.of([1.0]) == Spread(1.0, 1.0, 1.0)
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "Other CPU"}, "name 'Some CPU, 2 cores', not 'Other CPU'"),
        ({"torch": "2.6.0"}, "torch '2.13.0', not '2.6.0'"),
        ({"threads": 8}, "threads 1, not 8"),
    ],
)
def test_another_device_or_version_is_refused(tmp_path, change, word):
    path = tmp_path / "components.yaml"
    write_measurement(path, measured())
    with pytest.raises(InputError) as caught:
        read_measurement(path, dataclasses.replace(HERE, **change))
    assert len(caught.value.problems) == 1
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("version: 1", "version: 2", "version 2; must be"),
        ("simdeep-components", "other", "'other' version 1"),
        ("dtype: float32", "kind: float32", "missing key 'dtype'"),
        ("repeats: 5", "repeats: many", "not a file of component times"),
    ],
)
def test_other_files_are_refused(tmp_path, old, new, word):
    path = tmp_path / "components.yaml"
    write_measurement(path, measured())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=word):
        read_measurement(path)
