"""Generated programs for engine tests."""

from hypothesis import strategies as st

from simdeep.program.columns import Kind

from .programs import Task, sync, transfer


@st.composite
def programs(draw, groups=False):
    """Random programs; without groups they can finish, as dependencies point back."""
    n = draw(st.integers(1, 24))
    tasks = []
    for i in range(n):
        kind = draw(st.sampled_from([Kind.COMPUTE, Kind.TRANSFER, Kind.SYNC]))
        common = {
            "rank": draw(st.integers(0, 2)),
            "stream": draw(st.integers(0, 2)),
            "deps": draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [],
        }
        ns = st.integers(0, 50).map(float)
        if kind == Kind.COMPUTE:
            tasks.append(
                Task(
                    **common,
                    sm=draw(ns),
                    mem=draw(ns),
                    fixed=draw(ns),
                    want=draw(st.integers(0, 132)),
                    sm_drag=draw(st.sampled_from([0.0, 0.05])),
                    mem_drag=draw(st.sampled_from([0.0, 0.15])),
                )
            )
        elif kind == Kind.TRANSFER:
            ports = draw(st.dictionaries(st.integers(0, 5), ns, max_size=4))
            tasks.append(
                transfer(
                    **common,
                    ports=ports,
                    floor=draw(ns),
                    latency=draw(ns),
                    sms=draw(st.integers(0, 20)),
                    draw=draw(st.sampled_from([0, 1000])),
                )
            )
        else:
            tasks.append(sync(**common))
        if groups and kind == Kind.TRANSFER:
            tasks[-1].group = draw(st.integers(-1, 3))
    return tasks
