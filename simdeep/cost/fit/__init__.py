"""Reproducible fits: measured rows in, calibration file out."""
