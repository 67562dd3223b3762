"""Sizing: which deployment serves a traffic within a latency goal at the least cost."""
