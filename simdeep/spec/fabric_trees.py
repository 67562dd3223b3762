"""One switch, and two-layer fat trees of one or several planes.

In a fat tree rail r belongs to plane r % planes; a plane is a tree of its own, and planes meet only
inside a node, over NVLink. A leaf serves `down` NICs of one rail and has `up` links, dealt out in
turn to the spines of its plane so that each gets its share.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simdeep.spec.fabric import I64, Cables, FabricPlan, deal, misplaced_keys
from simdeep.spec.yamlio import KeyPath


class SingleSwitchPlan(FabricPlan):
    """One switch for everything."""

    @property
    def rails(self) -> int:
        """A single switch serves all GPUs alike."""
        return 1

    @property
    def tiers(self) -> Mapping[str, int]:
        """One leaf."""
        return {"leaf": 1}

    def problems(self) -> list[tuple[KeyPath, str]]:
        """Keys of other fabrics, and too few ports."""
        found = misplaced_keys(self.fabric)
        ports = self.fabric.ports_per_switch
        if self.gpus > ports:
            message = f"one switch of {ports} ports cannot hold {self.gpus} NICs"
            found.append((("ports_per_switch",), f"{message}; take a fabric of kind rail-fat-tree"))
        return found

    def find_leaves(self) -> I64:
        """Leaf 0 for all."""
        return np.zeros(self.gpus, dtype=np.int64)

    def find_cables(self) -> Cables:
        """None: there is one switch."""
        return Cables.join()


class TreePlan(FabricPlan):
    """What fat trees of two and of three layers share: leaves, their ports and their rails."""

    @property
    def down(self) -> int:
        """Ports of a leaf that go to NICs."""
        ports, over = self.fabric.ports_per_switch, self.fabric.oversubscription
        return int(ports * over / (1 + over))

    @property
    def up(self) -> int:
        """Ports of a leaf that go to spines, where there are spines."""
        return int(self.down / self.fabric.oversubscription)

    @property
    def leaves_per_rail(self) -> int:
        """Leaves that share the NICs of one rail."""
        return -(-(self.gpus // self.rails) // self.down)

    def rail_problems(self) -> list[tuple[KeyPath, str]]:
        """Rails and ports that do not add up."""
        fabric, rails = self.fabric, self.rails
        found = misplaced_keys(fabric)
        if self.gpus_per_node % rails:
            message = f"is {rails}; must divide gpus_per_node = {self.gpus_per_node}"
            found.append((("rails",), message))
        elif rails % fabric.planes:
            found.append((("planes",), f"is {fabric.planes}; must divide the {rails} rails"))
        if self.up < 1:
            message = f"is {fabric.oversubscription:g}; leaves no port to go up"
            found.append((("oversubscription",), message))
        return found


class TwoLayerPlan(TreePlan):
    """Leaves and spines, in one or several planes."""

    @property
    def leaves_per_plane(self) -> int:
        """Leaves of one fat tree."""
        return self.leaves_per_rail * self.rails // self.fabric.planes

    @property
    def spines_per_plane(self) -> int:
        """Spines of one fat tree; none where one leaf holds everything."""
        if self.leaves_per_plane == 1:
            return 0
        return -(-self.leaves_per_plane * self.up // self.fabric.ports_per_switch)

    @property
    def tiers(self) -> Mapping[str, int]:
        """Leaves and spines, plane by plane."""
        planes = self.fabric.planes
        return {"leaf": self.leaves_per_plane * planes, "spine": self.spines_per_plane * planes}

    def problems(self) -> list[tuple[KeyPath, str]]:
        """Rails and planes that do not divide, and more leaves than a spine has ports."""
        fabric, rails = self.fabric, self.rails
        found = self.rail_problems()
        if not found and self.leaves_per_plane > fabric.ports_per_switch:
            message = (
                f"two layers of {fabric.ports_per_switch}-port switches take at most "
                f"{fabric.ports_per_switch} leaves in a plane; {self.gpus} GPUs on {rails} rails "
                f"and {fabric.planes} plane(s) need {self.leaves_per_plane}; more planes or ports "
                "do it, or a three-layer-fat-tree"
            )
            found.append((("ports_per_switch",), message))
        return found

    def find_leaves(self) -> I64:
        """Plane by plane and in it rail by rail."""
        position, rail = np.divmod(np.arange(self.gpus), self.rails)
        rail_in_plane, plane = np.divmod(rail, self.fabric.planes)
        leaf = rail_in_plane * self.leaves_per_rail + position // self.down
        found: I64 = plane * self.leaves_per_plane + leaf
        return found

    def find_cables(self) -> Cables:
        """Every leaf to the spines of its plane."""
        if not self.spines_per_plane:
            return Cables.join()
        links = deal(self.leaves_per_plane, self.up, self.spines_per_plane)
        local, spine = np.nonzero(links)
        plane = np.arange(self.fabric.planes)[:, None]
        leaf = plane * self.leaves_per_plane + local
        first = self.tiers["leaf"]
        spines = first + plane * self.spines_per_plane + spine
        dealt = np.broadcast_to(links[local, spine], leaf.shape)
        return Cables.join(("fabric", leaf, spines, dealt))
