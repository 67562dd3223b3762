"""The command line in process, as the tests of the other commands have it."""

from tests.cli.conftest import cli, plain_environment

__all__ = ["cli", "plain_environment"]
