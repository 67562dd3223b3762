"""Which tensors travel between ranks when a table is run, and around which cell.

A message has a tag of its own, and a receive waits for its tag: messages between two ranks may
overtake each other, so the order of sends and receives cannot lock. What can be replayed can then
be run, because a rank waits only for inputs of its next cell.
"""

from __future__ import annotations

from typing import NamedTuple

from simdeep.program.schedule import Act, Cell, Table, acts_of

AHEAD = 4
"""Cells whose receives simdeep's runtime opens at once. Gloo sends only into an open receive:
without it every transfer would wait until its receiver has nothing else to do."""


class Slot(NamedTuple):
    """What a message carries: activations, or their gradients, as input of a stage."""

    gradient: bool
    stage: int
    mb: int


class Way(NamedTuple):
    """What messages take one after the other; those of other stages may overtake them."""

    source: int
    target: int
    gradient: bool
    stage: int

    def __str__(self) -> str:
        what = "gradients" if self.gradient else "activations"
        return f"{self.source} to {self.target}, {what} of stage {self.stage}"


class Message(NamedTuple):
    """One tensor from one rank to another; `source` and `target` are equal where it stays."""

    slot: Slot
    source: int
    target: int
    tag: int

    @property
    def way(self) -> Way:
        """The way it goes."""
        return Way(self.source, self.target, self.slot.gradient, self.slot.stage)


class Step(NamedTuple):
    """A cell, the messages it waits for, and those it sends at its end."""

    cell: Cell
    receives: tuple[Message, ...]
    sends: tuple[Message, ...]


def input_of(act: Act, table: Table) -> Slot | None:
    """The input an action takes from another stage: none at the ends, none for W."""
    if act.kind == "F":
        return Slot(False, act.stage, act.mb) if act.stage else None
    if act.kind == "W" or act.stage == table.n_stages - 1:
        return None
    return Slot(True, act.stage, act.mb)


def output_of(act: Act, table: Table) -> Slot | None:
    """What an action makes for another stage: the inverse of `input_of`."""
    if act.kind == "F":
        return Slot(False, act.stage + 1, act.mb) if act.stage < table.n_stages - 1 else None
    if act.kind == "W" or not act.stage:
        return None
    return Slot(True, act.stage - 1, act.mb)


def message_of(slot: Slot, table: Table) -> Message:
    """The message that fills a slot."""
    maker = slot.stage + 1 if slot.gradient else slot.stage - 1
    place = (slot.gradient * table.n_stages + slot.stage) * table.n_microbatches + slot.mb
    return Message(
        slot,
        source=table.rank_of(maker, slot.mb),
        target=table.rank_of(slot.stage, slot.mb),
        tag=place,
    )


def steps_of(table: Table, rank: int) -> tuple[Step, ...]:
    """What a rank does. Messages to itself are among the sends, not among the receives."""
    steps = []
    for cell in table.rows[rank]:
        taken = [slot for act in acts_of(cell) if (slot := input_of(act, table))]
        made = [slot for act in acts_of(cell) if (slot := output_of(act, table))]
        receives = (message_of(slot, table) for slot in taken)
        steps.append(
            Step(
                cell,
                tuple(message for message in receives if message.source != rank),
                tuple(message_of(slot, table) for slot in made),
            )
        )
    return tuple(steps)
