"""Collectives: closed forms for the training step, and messages for the simulation of flows.

`closed` prices ring collectives and sends by their busiest port. `messages` says what each
algorithm sends to whom; `simdeep.engine.collectives` runs that over a cluster's links.
"""

from simdeep.cost.collectives.closed import (
    CollectiveKind,
    Group,
    Links,
    TransferPrice,
    collective,
    point_to_point,
)

__all__ = ["CollectiveKind", "Group", "Links", "TransferPrice", "collective", "point_to_point"]
