"""Charts of a result: axes in, axes out (a figure where several panels belong together).

matplotlib is imported when a chart is drawn, never `pyplot`; call `save` to write a file.
"""

from simdeep.report.charts.bubble_curves import BubbleCurve, bubble_curves
from simdeep.report.charts.canvas import new_figure, save
from simdeep.report.charts.gantt import pipeline_gantt, pipeline_page
from simdeep.report.charts.heatmap import gpu_heatmap
from simdeep.report.charts.memory_by_rank import memory_by_rank
from simdeep.report.charts.overlapped_block import overlapped_block, typical_block
from simdeep.report.charts.where_time_goes import time_by_rank

__all__ = [
    "BubbleCurve",
    "bubble_curves",
    "gpu_heatmap",
    "memory_by_rank",
    "new_figure",
    "overlapped_block",
    "pipeline_gantt",
    "pipeline_page",
    "save",
    "time_by_rank",
    "typical_block",
]
