"""Hooks on any `nn.Module`: what each component of it takes, keeps and routes.

`measure` runs a model as it is and times its components; the measurement goes into a file of
component times (`file`) and its routing into a trace (`docs/formats.md`). `components`, `record`,
`replay`, `routing` and `clock` import torch when imported; the rest does without.
"""

from simdeep.validate.hooks.device import Device, current_device
from simdeep.validate.hooks.file import read_measurement, write_measurement
from simdeep.validate.hooks.measure import measure
from simdeep.validate.hooks.measurement import Component, Measurement, Spread

__all__ = [
    "Component",
    "Device",
    "Measurement",
    "Spread",
    "current_device",
    "measure",
    "read_measurement",
    "write_measurement",
]
