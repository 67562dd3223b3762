"""The command line: thin commands over `simdeep.api`. Heavy imports live inside the commands."""

from simdeep.cli.app import main

__all__ = ["main"]
