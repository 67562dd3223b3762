"""The loop of the replay: a function that runs as plain Python on lists, or compiled on arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def advance(
    row_ptr: Any,
    took: Any,
    need: Any,
    delay: Any,
    sets: Any,
    need2: Any,
    delay2: Any,
    sets2: Any,
    done: Any,
    at: Any,
    clock: Any,
    sleeper: Any,
    start: Any,
    end: Any,
) -> None:
    """Advance each rank until it must wait; setting an entry wakes the rank that waits for it.

    Args:
        row_ptr: [ranks + 1] first cell of each rank.
        took: [cells] time of each cell.
        need: [cells] entry of `done` a cell waits for (-1: none), with `delay` after it.
        delay: [cells].
        sets: [cells] entry its end sets.
        need2: [cells] the same for the backward of a block; -1 where a cell is no block.
        delay2: [cells].
        sets2: [cells].
        done: [entries] when each was set; below 0: not yet. Filled in.
        at: [ranks] cell each rank stands at. Filled in.
        clock: [ranks] when each rank is free. Filled in.
        sleeper: [entries] rank that waits for it (-1: none).
        start: [cells] filled in.
        end: [cells] filled in.
    """
    ready = list(range(len(at)))
    while len(ready) > 0:
        rank = ready.pop()
        now, index, stop = clock[rank], at[rank], row_ptr[rank + 1]
        while index < stop:
            entry = need[index]
            if entry >= 0:
                arrival = done[entry]
                if arrival < 0:
                    sleeper[entry] = rank
                    break
                arrival += delay[index]
                if arrival > now:
                    now = arrival
            other = sets2[index]
            if other >= 0:
                entry = need2[index]
                if entry >= 0:
                    arrival = done[entry]
                    if arrival < 0:
                        sleeper[entry] = rank
                        break
                    arrival += delay2[index]
                    if arrival > now:
                        now = arrival
            start[index] = now
            now += took[index]
            entry = sets[index]
            end[index] = now
            done[entry] = now
            if sleeper[entry] >= 0:
                ready.append(sleeper[entry])
                sleeper[entry] = -1
            if other >= 0:
                done[other] = now
                if sleeper[other] >= 0:
                    ready.append(sleeper[other])
                    sleeper[other] = -1
            index += 1
        at[rank] = index
        clock[rank] = now


@cache
def compiled_advance() -> Callable[..., None]:
    """`advance` for arrays."""
    from simdeep.jit import njit

    return njit(advance)
