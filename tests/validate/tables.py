"""Tables to run: the registry's, and two by hand in torch's two placements of stages."""

from __future__ import annotations

from simdeep.program.schedule import Table, build_table, from_csv, schedule_names, schedule_problems

PP, MICROBATCHES = 4, 8

LOOP = """\
0F0,0F1,2F0,2F1,2B0,2I1,0B0,2W1,0B1
1F0,1F1,3F0,3B0,3F1,3I1,1B0,3W1,1I1,1W1
"""
VEE = """\
0F0,0F1,3F0,3I0,3F1,(0F2;3B1)OVERLAP_F_B,0I0,3F2,3I2,0B1,3W0,3W2,0I2,0W0,0W2
1F0,2F0,1F1,2F1,2I0,1I0,2B1,(1F2;1B1)OVERLAP_F_B,2F2,2I2,1I2,2W0,2W2,1W0,1W2
"""


def of_registry() -> dict[str, Table]:
    """Every schedule at a small size, with one and two stages a rank where it can have them."""
    found = {}
    for name in schedule_names():
        for vpp in (1, 2):
            if not schedule_problems(name, PP, MICROBATCHES, vpp):
                found[f"{name}, vpp {vpp}"] = build_table(name, PP, MICROBATCHES, vpp)
    return found


def by_hand() -> dict[str, Table]:
    """Tables of two ranks."""
    return {
        "loop": from_csv(LOOP, name="loop"),
        "vee": from_csv(VEE, name="vee"),
        "dualpipe": build_table("dualpipe", 2, 6),
    }
