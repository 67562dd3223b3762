"""Reports as one self-contained HTML file: open it from disk, forward it, print it.

`step_report` lays out a simulated training step or pair. The answer and its tables are plain HTML
on top, readable without script; the timeline below is interactive (bokeh, its script inside).
"""

from simdeep.report.html.page import Section, page
from simdeep.report.html.step import Extras, step_report

__all__ = ["Extras", "Section", "page", "step_report"]
