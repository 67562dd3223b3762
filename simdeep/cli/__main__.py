"""`python -m simdeep.cli`."""

from simdeep.cli.app import main

main()
