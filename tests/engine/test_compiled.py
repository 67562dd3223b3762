"""The two engines give the same timeline, span for span."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeep.engine import compiled, reference
from simdeep.errors import DeadlockError

from .programs import Task, outcome, priced, transfer
from .strategies import programs


@settings(deadline=None, max_examples=300)
@given(programs(groups=True), st.booleans())
def test_same_timeline(tasks, static):
    program = priced(tasks, static=static)
    assert outcome(compiled, program) == outcome(reference, program)


def test_empty_program():
    assert compiled.run(priced([])).makespan_ns == 0


def test_same_deadlock_text():
    tasks = [
        transfer(group=0, latency=1),
        transfer(group=1, latency=1),
        transfer(rank=1, group=1, latency=1),
        transfer(rank=1, group=0, latency=1),
        Task(rank=2, sm=3, deps=[0]),
    ]
    texts = []
    for engine in (reference, compiled):
        with pytest.raises(DeadlockError) as caught:
            engine.run(priced(tasks))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
