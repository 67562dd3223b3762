"""What each runtime does on a rank, in order: compute, open a send or a receive, wait for one.

The order of computing is the table's; where the runtimes differ is when they wait. Torch's GPipe
and 1F1B are loops that open a receive only when they need it, and 1F1B waits for a send together
with the next receive. Torch's table runtime opens receives in the order its lowering puts them, and
waits for sends at the end. simdeep's runtime opens the receives of the next few cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from simdeep.program.schedule import Act, Cell, Table, acts_of
from simdeep.validate.messages import (
    AHEAD,
    Message,
    input_of,
    message_of,
    output_of,
    steps_of,
)
from simdeep.validate.pipeline.points import OWN


class Op(NamedTuple):
    """One thing a rank does: `run` has an action, the others a message."""

    what: Literal["run", "send", "recv", "wait"]
    act: Act | None = None
    message: Message | None = None


Ops = tuple[tuple[Op, ...], ...]
"""By rank."""


def operations(table: Table) -> Ops:
    """What the runtime that executes a table does on each rank."""
    if table.name == OWN:
        return tuple(tuple(_own(table, rank)) for rank in range(table.n_ranks))
    if table.name == "gpipe":
        return tuple(tuple(_gpipe(table, rank)) for rank in range(table.n_ranks))
    if table.name == "1f1b":
        return tuple(tuple(_one_f_one_b(table, rank)) for rank in range(table.n_ranks))
    return _lowered(table)


def run(act: Act) -> Op:
    """Compute."""
    return Op("run", act=act)


def send(message: Message) -> Op:
    """Open a send."""
    return Op("send", message=message)


def recv(message: Message) -> Op:
    """Open a receive."""
    return Op("recv", message=message)


def wait(message: Message) -> Op:
    """Wait until a message of this rank has arrived, or has left."""
    return Op("wait", message=message)


def _input(act: Act, table: Table) -> Message | None:
    """The message an action needs from another rank."""
    slot = input_of(act, table)
    message = None if slot is None else message_of(slot, table)
    return message if message is not None and message.source != message.target else None


def _output(act: Act, table: Table) -> Message | None:
    """The message an action makes for another rank."""
    slot = output_of(act, table)
    message = None if slot is None else message_of(slot, table)
    return message if message is not None and message.source != message.target else None


def _gpipe(table: Table, rank: int) -> Iterator[Op]:
    """ScheduleGPipe: sends are waited for after all forwards, and after all backwards."""
    for kind in "FB":
        sent = []
        for cell in table.rows[rank]:
            (act,) = acts_of(cell)
            if act.kind != kind:
                continue
            yield from _receive_now(act, table)
            yield run(act)
            if made := _output(act, table):
                sent.append(made)
                yield send(made)
        yield from map(wait, sent)


def _receive_now(act: Act, table: Table) -> Iterator[Op]:
    if needed := _input(act, table):
        yield recv(needed)
        yield wait(needed)


def _one_f_one_b(table: Table, rank: int) -> Iterator[Op]:
    """Schedule1F1B: warm-up forwards, then B and F in turn, then the backwards that are left."""
    acts = [act for cell in table.rows[rank] for act in acts_of(cell)]
    warmup = next(i for i, act in enumerate(acts) if act.kind == "B")
    pending: list[Message] = []  # sent and not waited for
    held: Message | None = None  # made and not yet sent
    last_forward = max(i for i, act in enumerate(acts) if act.kind == "F")
    for i, act in enumerate(acts):
        needed, made = _input(act, table), _output(act, table)
        if warmup <= i <= last_forward + 1:
            # One batch: what the action before made, and what this one needs.
            batch = [send(held)] if held else []
            batch += [recv(needed)] if needed else []
            yield from batch
            yield from (wait(op.message) for op in batch if op.message)
            held = None
        else:
            yield from _receive_now(act, table)
        yield run(act)
        if i < warmup or i > last_forward:
            # At the ends sends go off at once, and the one before is waited for.
            yield from map(wait, pending)
            pending = []
        if i == warmup - 1 or warmup <= i <= last_forward:
            held = made
        elif made:
            pending = [made]
            yield send(made)
    yield from map(wait, pending)


def _lowered(table: Table) -> Ops:
    """Torch's table runtime: `_add_send_recv` puts a receive where its sender's action is.

    Ranks take turns; one whose next cell lacks a receive passes.
    """
    ops: list[list[Op]] = [[] for _ in table.rows]
    at = [0] * table.n_ranks
    opened: set[Message] = set()
    while any(i < len(row) for i, row in zip(at, table.rows, strict=True)):
        for rank, row in enumerate(table.rows):
            if at[rank] == len(row):
                continue
            acts = acts_of(row[at[rank]])
            needs = [needed for act in acts if (needed := _input(act, table))]
            if not opened.issuperset(needs):
                continue
            at[rank] += 1
            for act in acts:
                if needed := _input(act, table):
                    ops[rank].append(wait(needed))
                ops[rank].append(run(act))
            for act in acts:
                if made := _output(act, table):
                    ops[rank].append(send(made))
                    ops[made.target].append(recv(made))
                    opened.add(made)
    for row_ops in ops:
        row_ops += [wait(op.message) for op in row_ops if op.what == "send" and op.message]
    return tuple(map(tuple, ops))


def _own(table: Table, rank: int) -> Iterator[Op]:
    """simdeep's runtime (`validate.runtime`)."""
    steps = steps_of(table, rank)
    opened, sent = 0, []
    for index, step in enumerate(steps):
        while opened < min(index + AHEAD, len(steps)):
            yield from map(recv, steps[opened].receives)
            opened += 1
        yield from map(wait, step.receives)
        yield from _run_cell(step.cell)
        away = [message for message in step.sends if message.target != rank]
        yield from map(send, away)
        sent += away
    yield from map(wait, sent)


def _run_cell(cell: Cell) -> Iterator[Op]:
    return map(run, acts_of(cell))


def messages_of(ops: Sequence[Op]) -> list[Message]:
    """Messages a rank sends, in order."""
    return [op.message for op in ops if op.what == "send" and op.message]
