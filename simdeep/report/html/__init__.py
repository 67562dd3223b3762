"""Reports as one self-contained HTML file: open it from disk, forward it, print it.

`step_report` lays out a simulated training step or pair, `serving_page` a serving deployment,
`iteration_page` one without traffic, `plan_page` a plan, `alltoall_page` an expert all-to-all. The
answer and its tables are plain HTML on top, readable without script; a step's timeline is
interactive (bokeh, its script inside).
"""

from simdeep.report.html.alltoall import alltoall_page
from simdeep.report.html.iteration import iteration_page
from simdeep.report.html.page import Section, page
from simdeep.report.html.plan import plan_page
from simdeep.report.html.serving import serving_page
from simdeep.report.html.step import Extras, step_report

__all__ = [
    "Extras",
    "Section",
    "alltoall_page",
    "iteration_page",
    "page",
    "plan_page",
    "serving_page",
    "step_report",
]
