"""What a measurement was made on: device, driver and library versions."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any


def describe_device(device: str) -> dict[str, Any]:
    """Facts of the device present, `cpu` or `cuda`, and of the software on it."""
    import numpy as np
    import torch

    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if device == "cpu":
        return {"device": cpu_name(), "threads": torch.get_num_threads()} | facts
    properties = torch.cuda.get_device_properties(0)
    facts |= {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "sms": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "gpus": torch.cuda.device_count(),
    }
    return {"device": properties.name} | facts | _driver()


def cpu_name() -> str:
    """Model name of the processor and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _driver() -> dict[str, Any]:
    try:
        pynvml: Any = import_module("pynvml")

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "power_limit_w": pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3,
            "max_sm_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        }
    except Exception:
        return {}
