"""What a piece of work costs alone: kernels, all-to-all, collectives, and their calibration."""
