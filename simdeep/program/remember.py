"""A bounded memory of results whose arguments never change.

Models, routing draws and calibrations are large frozen objects that many simulations share: hashing
one costs more than what is computed from it, and arrays cannot be hashed at all. So objects count
as the same when they are the same object, plain values when they are equal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PLAIN = (int, float, str, bool, type(None))


def remembered(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep the latest `maxsize` results of a function of frozen arguments, given by position.

    The arguments of kept results are kept too: no other object can take their identity meanwhile.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept: OrderedDict[tuple[Any, ...], tuple[T, tuple[Any, ...]]] = OrderedDict()

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if kwargs:
                raise TypeError(f"{function.__name__} takes its arguments by position")
            key = tuple(map(_key, args))
            found = kept.get(key)
            if found is not None:
                kept.move_to_end(key)
                return found[0]
            result = function(*args, **kwargs)
            kept[key] = (result, args)
            if len(kept) > maxsize:
                kept.popitem(last=False)
            return result

        return call

    return decorate


def _key(value: object) -> object:
    """What stands for an argument: a plain value or tuple of such with its type, or an identity."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, tuple) and all(isinstance(part, _PLAIN) for part in value):
        return value
    return id(value)
