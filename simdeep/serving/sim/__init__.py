"""Requests through a deployment: a SimPy reference and its compiled twin.

`fleet` says what both read, `outcome` what both give; `reference` reads like the rules.
"""
