"""A three-layer fat tree: leaves and spines in pods, cores between the pods.

Nodes fill it unit by unit: a unit is one leaf of every rail, and a pod takes as many leaves as a
spine has ports down (half of its ports). The spines of equal place in their pods share a group of
cores. Full, with 64-port switches: 64 pods of 32 leaves and 32 spines, 1,024 cores, 65,536 NICs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simdeep.spec.fabric import I64, Cables, deal
from simdeep.spec.fabric_trees import TreePlan
from simdeep.spec.yamlio import KeyPath


class ThreeLayerPlan(TreePlan):
    """Leaves, spines and cores."""

    @property
    def leaves(self) -> int:
        """Leaves of all pods."""
        return self.leaves_per_rail * self.rails

    @property
    def leaves_per_pod(self) -> int:
        """Leaves of a pod; the last one may have fewer."""
        return min(self.fabric.ports_per_switch // 2, self.leaves)

    @property
    def pods(self) -> int:
        """Groups of leaves with spines of their own."""
        return -(-self.leaves // self.leaves_per_pod)

    @property
    def spine_up(self) -> int:
        """Ports of a spine that go to cores, where there are cores."""
        return self.fabric.ports_per_switch - self.fabric.ports_per_switch // 2

    @property
    def spines_per_pod(self) -> int:
        """Spines of a pod; none where one leaf holds everything."""
        if self.leaves == 1:
            return 0
        return -(-self.leaves_per_pod * self.up // (self.fabric.ports_per_switch // 2))

    @property
    def cores_per_group(self) -> int:
        """Cores shared by the spines of equal place; none with a single pod."""
        if self.pods == 1:
            return 0
        return -(-self.pods * self.spine_up // self.fabric.ports_per_switch)

    @property
    def tiers(self) -> Mapping[str, int]:
        """Leaves and spines pod by pod, cores group by group."""
        spines = self.spines_per_pod
        return {
            "leaf": self.leaves,
            "spine": self.pods * spines,
            "core": spines * self.cores_per_group,
        }

    def problems(self) -> list[tuple[KeyPath, str]]:
        """Rails that do not divide, and more pods than a core has ports."""
        fabric = self.fabric
        found = self.rail_problems()
        if not found and self.pods > fabric.ports_per_switch:
            ports = fabric.ports_per_switch
            message = (
                f"three layers of {ports}-port switches take at most {ports} pods of "
                f"{self.leaves_per_pod} leaves; {self.gpus} GPUs need {self.pods}; more ports do it"
            )
            found.append((("ports_per_switch",), message))
        return found

    def find_leaves(self) -> I64:
        """Unit by unit and in it rail by rail."""
        position, rail = np.divmod(np.arange(self.gpus), self.rails)
        found: I64 = position // self.down * self.rails + rail
        return found

    def find_cables(self) -> Cables:
        """Leaves to the spines of their pod, spines to the cores of their place."""
        spines, cores = self.spines_per_pod, self.cores_per_group
        if not spines:
            return Cables.join()
        links = deal(self.leaves, self.up, spines)
        leaf, place = np.nonzero(links)
        spine = self.leaves + leaf // self.leaves_per_pod * spines + place
        groups = [("fabric", leaf, spine, links[leaf, place])]
        if cores:
            dealt = deal(self.pods, self.spine_up, cores)
            pod, core = np.nonzero(dealt)
            place = np.arange(spines)[:, None]
            low = self.leaves + pod * spines + place
            high = self.leaves + self.pods * spines + place * cores + core
            up_links = np.broadcast_to(dealt[pod, core], low.shape)
            groups.append(("fabric", low.ravel(), high.ravel(), up_links.ravel()))
        return Cables.join(*groups)
