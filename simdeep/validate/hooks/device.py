"""Which device and software a measurement holds for."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from simdeep.calibrate.device import cpu_name
from simdeep.errors import InputError, Problem


@dataclass(frozen=True, slots=True)
class Device:
    """Times of one of these say nothing about another."""

    kind: str
    """`cpu` or `cuda`."""
    name: str
    threads: int
    """Threads that compute on a CPU; 1 on a GPU."""
    torch: str
    python: str

    def differences(self, other: Device) -> list[str]:
        """What sets `other` apart, as `key: this one's, other's`."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{key} {ours[key]!r}, not {theirs[key]!r}" for key in ours if ours[key] != theirs[key]
        ]


def current_device(kind: str = "cpu") -> Device:
    """The device of this kind that this process computes on; needs torch."""
    import torch

    python = platform.python_version()
    if kind == "cuda":
        return Device(kind, torch.cuda.get_device_name(), 1, str(torch.__version__), python)
    return Device("cpu", cpu_name(), torch.get_num_threads(), str(torch.__version__), python)


@contextmanager
def using(kind: str, threads: int) -> Iterator[Device]:
    """Compute with so many threads for a while; the device that times then hold for.

    Raises:
        InputError: no such device here.
    """
    import torch

    if kind not in ("cpu", "cuda"):
        raise InputError([Problem("--device", "", f"is {kind!r}; must be cpu or cuda")])
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError([Problem("--device", "", "is cuda, but torch finds no GPU; take cpu")])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield current_device(kind)
    finally:
        torch.set_num_threads(before)
