"""simdeep: simulate and plan the parallelism and communication of large-model training."""

__version__ = "0.1.0"
