"""Routing draws kept from one simulation to the next: drawing takes longer than simulating."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from simdeep.program.routing import draw_loads
from simdeep.program.routing.loads import Loads

Key = tuple[Any, ...]
"""The arguments of `draw_loads`."""

_MOST = 256
_kept: OrderedDict[Key, Loads] = OrderedDict()


def kept_loads(*args: Any, **options: Any) -> Loads:
    """`draw_loads`, which is asked once for the same arguments."""
    key: Key = (*args, *sorted(options.items()))
    if key not in _kept:
        keep(key, draw_loads(*args, **options))
    _kept.move_to_end(key)
    return _kept[key]


def keep(key: Key, loads: Loads) -> None:
    """Keep draws, which may be another process's; those of a key already there stay."""
    _kept.setdefault(key, loads)
    if len(_kept) > _MOST:
        _kept.popitem(last=False)


def latest() -> tuple[Key, Loads] | None:
    """The draws last asked for, to hand to another process."""
    return next(reversed(_kept.items())) if _kept else None
