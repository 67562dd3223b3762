"""The GPU catalogue against NVIDIA's datasheets, and what a wrong GPU file gets."""

from pathlib import Path

import pytest

from simdeep.errors import InputError
from simdeep.spec.hardware import Gpu, GpuFile, gpu_catalogue, load_gpu
from simdeep.spec.resources import find_resource
from simdeep.spec.yamlio import load_document

# Dense TFLOP/s, HBM TB/s, GB and NVLink GB/s per direction: the vendor's own tables.
DATASHEETS = {
    "h100": {"bf16": 989, "fp8": 1979, "fp32": 67, "hbm": 3.35, "gb": 80, "nvlink": 450},
    "h200": {"bf16": 989, "fp8": 1979, "fp32": 67, "hbm": 4.8, "gb": 141, "nvlink": 450},
    "a100-80g": {"bf16": 312, "fp32": 19.5, "hbm": 2.039, "gb": 80, "nvlink": 300},
    "b200": {
        "bf16": 2250,
        "fp8": 4500,
        "fp4": 9000,
        "fp32": 75,
        "hbm": 8,
        "gb": 180,
        "nvlink": 900,
    },
    "gb200": {
        "bf16": 2500,
        "fp8": 5000,
        "fp4": 10000,
        "fp32": 80,
        "hbm": 8,
        "gb": 186,
        "nvlink": 900,
    },
}

SMS = {"h100": 132, "h200": 132, "a100-80g": 108, "b200": 148, "gb200": 152}


@pytest.mark.parametrize("name", DATASHEETS)
def test_figures_are_those_of_the_datasheet(name: str) -> None:
    expected = DATASHEETS[name]
    gpu = load_gpu(name)
    file = GpuFile.model_validate(load_document(find_resource("gpus", name)).data)
    for dtype in ("bf16", "fp8", "fp4", "fp32"):
        if dtype in expected:
            assert gpu.peak[dtype] == expected[dtype] * 1e12
        else:
            assert dtype not in gpu.peak
    assert file.hbm_bandwidth.datasheet is not None
    assert file.hbm_capacity.datasheet is not None
    assert file.hbm_bandwidth.datasheet.value == pytest.approx(expected["hbm"] * 1e12)
    assert file.hbm_capacity.datasheet.value == expected["gb"] * 1e9
    assert gpu.nvlink_peak_bw == expected["nvlink"] * 1e9
    assert gpu.sms == SMS[name]


def test_h800_is_the_one_of_the_published_profile() -> None:
    gpu = load_gpu("h800")
    assert gpu.hbm_bytes == 84.94e9  # the profile's device total
    assert gpu.sms == 132
    assert gpu.nvlink_bw == 160e9  # usable, arXiv 2412.19437 sec 3.2.2
    assert gpu.nvlink_peak_bw == 200e9
    assert gpu.calibration == "h800"
    assert (gpu.peak["bf16"], gpu.peak["fp8"]) == (989e12, 1979e12)


@pytest.mark.parametrize("name", gpu_catalogue())
def test_every_shipped_gpu_is_plausible_and_sourced(name: str) -> None:
    gpu = load_gpu(name)
    assert gpu.id == name
    assert gpu.nvlink_bw <= gpu.nvlink_peak_bw
    assert gpu.peak["fp32"] < gpu.peak["bf16"] <= gpu.peak.get("fp8", gpu.peak["bf16"])
    assert gpu.l2_bytes < gpu.hbm_bytes
    assert {f"peak.{dtype}" for dtype in gpu.peak} <= set(gpu.sources)
    assert {"sms", "hbm_bytes", "hbm_bw", "l2_bytes", "nvlink_bw"} <= set(gpu.sources)
    kinds = {source.split(":")[0] for source in gpu.sources.values()}
    assert kinds <= {"datasheet", "measured", "guess"}


def load_changed(tmp_path: Path, change: dict[str, str]) -> Gpu:
    text = find_resource("gpus", "toy").read_text()
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "gpu.yaml"
    path.write_text(text)
    return load_gpu(path)


def test_measured_beats_guess_beats_datasheet(tmp_path: Path) -> None:
    line = 'guess: {value: 100 GB/s, source: "made up"}'
    sheet = "datasheet: {value: 120 GB/s, source: a sheet}"
    gpu = load_changed(tmp_path, {line: f"{line}\n  {sheet}"})
    assert (gpu.nvlink_bw, gpu.nvlink_peak_bw) == (100e9, 120e9)
    measured = "measured: {value: 90 GB/s, source: a bench}"
    gpu = load_changed(tmp_path, {line: f"{line}\n  {sheet}\n  {measured}"})
    assert gpu.nvlink_bw == 90e9
    assert gpu.sources["nvlink_bw"] == "measured: a bench"


def test_all_problems_of_a_gpu_file_come_at_once(tmp_path: Path) -> None:
    change = {"value: 1 TB/s": "value: 1 TiB", "sms:": "smss:", "value: 16 GiB": "value: -16 GiB"}
    with pytest.raises(InputError) as caught:
        load_changed(tmp_path, change)
    text = str(caught.value)
    assert "hbm_bandwidth" in text
    assert "'TiB'" in text
    assert "did you mean sms" in text
    assert "-16 GiB" in text
    assert f"{tmp_path / 'gpu.yaml'}:" in text


def test_an_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(InputError, match="h800"):
        load_gpu("h80")


@pytest.mark.parametrize("text", ["- 1\n", "just text\n", "5\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="keys"):
        load_gpu(path)


def test_schema_describes_every_field() -> None:
    schema = GpuFile.model_json_schema()
    assert all("description" in field for field in schema["properties"].values())
