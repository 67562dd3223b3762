"""The planner: which layout, schedule and options train a model fastest or cheapest.

Candidates are rows of columns (`candidates`). Lower bounds of their step time and memory judge all
of them at once (`prices`, `bounds`, `memory`); the compiled engine judges the rest, best bound
first (`search`, `judge`). `explain` says why the winner won.
"""
