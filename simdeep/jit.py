"""Compilation of hot loops. Importing this module imports numba; nothing at start-up does.

Compiled code is cached on disk where numba can write: beside the package, in `NUMBA_CACHE_DIR` if
set, else in the user's cache folder; where nothing is writable it is compiled anew in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def njit(function: Function) -> Function:
    """`numba.njit` without fast-math, so that floats come out as in plain Python.

    Compiled code lets other Python threads run.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: no locator available, i.e. no folder to cache in
        compiled = numba.njit(nogil=True)(function)
    return cast(Function, compiled)
