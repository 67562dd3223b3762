"""Hypothesis strategies: any small program that can finish."""

from __future__ import annotations

from hypothesis import strategies as st

from simdeep.program.columns import Action, Kind
from tests.analysis.tiny_programs import COMPONENTS, STREAMS, Tiny


@st.composite
def timelines(draw):
    """Timelines of up to 30 tasks on three ranks, some in groups, with memory and launch gaps."""
    tiny = Tiny(3)
    for step in range(draw(st.integers(0, 14))):
        stream = draw(st.sampled_from(STREAMS))
        kind = draw(st.sampled_from(list(Kind)))
        if stream == "compute":
            kind = draw(st.sampled_from([Kind.COMPUTE, Kind.COMPUTE, Kind.TRANSFER, Kind.SYNC]))
        ranks = draw(st.sampled_from([(0,), (1,), (2,), (0,), (1,), (0, 1), (0, 2), (0, 1, 2)]))
        action, component = draw(st.sampled_from(list(Action))), draw(st.sampled_from(COMPONENTS))
        before = len(tiny.rows)
        for rank in ranks:
            deps = draw(st.lists(st.integers(0, before - 1), max_size=3)) if before else []
            ns = 0 if kind == Kind.SYNC else draw(st.integers(0, 9))
            tiny.task(
                rank,
                stream,
                kind,
                action,
                component,
                ns,
                deps,
                group=step if len(ranks) > 1 else -1,
                stage=draw(st.integers(-1, 1)),
                microbatch=draw(st.integers(0, 1)),
                fixed=draw(st.sampled_from([0.0, 0.4, 1.5, 20.0])),
                take=draw(st.integers(0, 3)),
                free=draw(st.integers(0, 3)),
            )
    return tiny.timeline()
