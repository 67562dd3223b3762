"""Sweeps: one scenario at every combination of some values, on any number of machines.

`axes` says what is varied, `plan` resolves every point and gives it a key, `store` keeps answers by
key in a file that only grows, `backends` computes what the store lacks, `evaluate` is one point,
`run` puts them together and `table` is the answer.
"""
