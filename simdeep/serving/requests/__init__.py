"""What arrives: times and lengths drawn from laws, or read from a trace."""

from simdeep.serving.requests.arrivals import arrival_times
from simdeep.serving.requests.lengths import LengthLaw
from simdeep.serving.requests.traces import Trace, read_trace

__all__ = ["LengthLaw", "Trace", "arrival_times", "read_trace"]
