"""Lowering: from a schedule table to a columnar program, in small passes.

layout + model  -> units      what a stage computes, in order
unit + action   -> template   the tasks of one schedule action, with its dependencies
table           -> program    every action an instance of its template, joined by transfers
program         -> finished   gradient reduction, optimizer, parameter gathering at the end
"""
