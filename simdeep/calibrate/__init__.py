"""Times kernels and transfers on the device present and fits them into a calibration file.

Measuring (`timing`, `gemm`, `attention`, `memory`, `held`, `measure`, `comm`) needs torch and numpy
alone and writes rows; fitting (`fit_*`, `file`) needs no torch and reads rows. torch is imported
inside functions.
"""
