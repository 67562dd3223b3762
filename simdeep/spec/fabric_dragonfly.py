"""Dragonfly: groups of fully linked switches, and links from every group to every other.

After Kim et al., Technology-Driven, Highly-Scalable Dragonfly Topology (ISCA 2008): a switch has
`endpoints_per_switch` p NICs, a link to each of the other `switches_per_group` a - 1 switches of
its group, and `global_links` h to other groups; balanced means a = 2p = 2h, at most a h + 1 groups.
With 64 ports: p = h = 16, a = 32, as counted in arXiv 2505.09343 table 3 (511 groups).

Group i's global port at distance d leads to group i + d (modulo the groups). Distances are gone
through in turn as long as ports last, the rest in pairs d, -d so that both ends agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from simdeep.spec.fabric import I64, Cables, FabricPlan, misplaced_keys
from simdeep.spec.yamlio import KeyPath


class DragonflyPlan(FabricPlan):
    """Switches in groups; node by node, the NICs fill one switch after another."""

    @property
    def rails(self) -> int:
        """A switch serves all GPUs of a node alike."""
        return 1

    @property
    def per_switch(self) -> int:
        """NICs on a switch (p)."""
        return self.fabric.endpoints_per_switch or max(1, self.fabric.ports_per_switch // 4)

    @property
    def per_group(self) -> int:
        """Switches of a group (a)."""
        return self.fabric.switches_per_group or max(1, self.fabric.ports_per_switch // 2)

    @property
    def global_per_switch(self) -> int:
        """Links of a switch to other groups (h)."""
        return self.fabric.global_links or max(1, self.fabric.ports_per_switch // 4)

    @property
    def groups(self) -> int:
        """Groups, as many as the NICs need."""
        return -(-self.gpus // (self.per_switch * self.per_group))

    @property
    def tiers(self) -> Mapping[str, int]:
        """Switches, group by group."""
        return {"switch": self.groups * self.per_group}

    def problems(self) -> list[tuple[KeyPath, str]]:
        """More ports than a switch has, and more groups than a group can be linked to."""
        found = misplaced_keys(self.fabric)
        ports, used = self.fabric.ports_per_switch, self.per_switch + self.per_group - 1
        used += self.global_per_switch
        if used > ports:
            message = (
                f"is {ports}; {self.per_switch} NICs, {self.per_group - 1} links in the group and "
                f"{self.global_per_switch} to other groups need {used}"
            )
            found.append((("ports_per_switch",), message))
        elif self.groups - 1 > self.per_group * self.global_per_switch:
            most = self.per_group * self.global_per_switch + 1
            message = (
                f"is {self.per_group}; {self.gpus} GPUs need {self.groups} groups, and "
                f"{self.global_per_switch} global links a switch reach at most {most}"
            )
            found.append((("switches_per_group",), message))
        return found

    def find_leaves(self) -> I64:
        """One switch after another."""
        found: I64 = np.arange(self.gpus) // self.per_switch
        return found

    @cached_property
    def _distances(self) -> list[int]:
        """Distance in groups that each global port of a group leads over, in port order."""
        ports, others = self.per_group * self.global_per_switch, self.groups - 1
        rounds, rest = divmod(ports, others)
        found = list(range(1, self.groups)) * rounds
        if rest % 2 and self.groups % 2 == 0:
            found.append(self.groups // 2)
        pairs = range(1, rest // 2 + 1)
        return found + [d for near in pairs for d in (near, self.groups - near)]

    def find_cables(self) -> Cables:
        """All pairs inside a group, and the global links."""
        a, groups = self.per_group, self.groups
        one, other = np.triu_indices(a, 1)
        start = np.arange(groups)[:, None] * a
        local = ("local", start + one, start + other, np.ones((groups, len(one)), dtype=int))
        if groups == 1:
            return Cables.join(local)
        at: dict[int, list[int]] = {}
        for port, distance in enumerate(self._distances):
            at.setdefault(distance, []).append(port // self.global_per_switch)
        here, far, over = [], [], []
        for distance, places in at.items():
            if 2 * distance <= groups:  # the others are the same links seen from their far ends
                here += places
                far += at[groups - distance]
                over += [distance] * len(places)
        group = np.arange(groups)[:, None]
        low = group * a + np.array(here)
        high = (group + np.array(over)) % groups * a + np.array(far)
        once = (2 * np.array(over) < groups) | (group < groups // 2)  # halfway round: seen twice
        pair, links = np.unique(np.stack([low[once], high[once]]), axis=1, return_counts=True)
        return Cables.join(local, ("global", pair[0], pair[1], links))
