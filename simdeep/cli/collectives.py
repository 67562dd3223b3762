"""`simdeep collectives`: bandwidths of collectives on a cluster, as nccl-tests prints them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdeep.cli.alltoall import EcmpChoice
from simdeep.cli.console import answer
from simdeep.cli.faults import guarded
from simdeep.cli.options import JsonOption
from simdeep.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simdeep.cost.collectives.messages import Algorithm
    from simdeep.engine.collectives import CollectiveRun

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST_SIZES = 64


class OperationChoice(StrEnum):
    """Collectives that there are."""

    all_reduce = "all_reduce"
    all_gather = "all_gather"
    reduce_scatter = "reduce_scatter"
    all_to_all = "all_to_all"
    send = "send"


class AlgorithmChoice(StrEnum):
    """Algorithms that there are."""

    ring = "ring"
    tree = "tree"
    hierarchical = "hierarchical"
    nvls = "nvls"
    direct = "direct"


@guarded
def collectives(
    operation: Annotated[OperationChoice, typer.Argument(help="The collective.")],
    topology: Annotated[str, typer.Option("--topology", help="Cluster.")] = "h800-2048",
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of the group, from gpu 0 on.")] = 16,
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="FIRST:LAST[:FACTOR]",
            help="Bytes from FIRST to LAST, times FACTOR (2) each; K, M, G are powers of 1,024.",
        ),
    ] = "1M:1G",
    algorithm: Annotated[
        AlgorithmChoice | None, typer.Option("--algorithm", help="Default: the fastest.")
    ] = None,
    ecmp: Annotated[
        EcmpChoice, typer.Option("--ecmp", help="How flows choose among equal ways.")
    ] = EcmpChoice.static,
    seed: Annotated[int, typer.Option("--seed", help="Seed of hashed routes.")] = 0,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="Whole bandwidths, not the shares that are achieved.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Time a collective for several sizes: algbw and busbw as nccl-tests defines them."""
    from simdeep.cost.calibration import calibration_for
    from simdeep.engine.collectives import Network, format_table, sweep
    from simdeep.report.result_json import to_json
    from simdeep.spec.topology import load_topology

    wanted = read_sizes(sizes)
    cluster = load_topology(topology)
    if not 2 <= gpus <= cluster.gpus:
        message = f"is {gpus}; must be 2 to the {cluster.gpus} of {cluster.name}"
        raise InputError([Problem("--gpus", "", message)])
    calibration = None if ideal else calibration_for(cluster.gpu)
    network = Network.of(cluster, ecmp.value, seed, calibration)
    name: Algorithm | None = None if algorithm is None else algorithm.value
    ranks = range(gpus) if operation is not OperationChoice.send else (0, gpus - 1)
    runs = sweep(network, operation.value, wanted, ranks, name)
    if as_json:
        document = {"topology": cluster.name, "gpus": gpus, "rows": rows_json(runs)}
        answer(to_json(document))
    else:
        answer(format_table(runs) + "\n")


def rows_json(runs: Sequence[CollectiveRun]) -> list[dict[str, Any]]:
    """A row for each size; GB/s of 1e9 B/s."""
    return [
        {
            "operation": run.operation,
            "algorithm": run.algorithm,
            "size_bytes": run.nbytes,
            "ranks": run.ranks,
            "time_us": run.seconds * 1e6,
            "algbw_gbps": run.algbw / 1e9,
            "busbw_gbps": run.busbw / 1e9,
            "busiest_link": run.bottleneck,
        }
        for run in runs
    ]


def read_sizes(text: str) -> list[float]:
    """Bytes of `1M:1G`, `1M:1G:4` or `8M`."""

    def refuse(message: str) -> InputError:
        return InputError([Problem(f"--sizes {text}", "", message)])

    parts = text.split(":")
    if not 1 <= len(parts) <= 3:
        raise refuse("write FIRST:LAST or FIRST:LAST:FACTOR, as in 1M:1G")
    found = []
    for part in parts[:2]:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", part.strip().upper())
        if match is None or float(match[1]) <= 0:
            raise refuse(f"{part!r} is no size above 0 such as 1M, 512K or 8")
        found.append(float(match[1]) * _UNITS[match[2]])
    first, last = found[0], found[-1]
    if first > last:
        raise refuse("the first size is larger than the last")
    try:
        factor = float(parts[2]) if len(parts) == 3 else 2.0
    except ValueError:
        factor = 0.0
    if not 1.0 < factor < 1e9:
        raise refuse(f"the factor {parts[-1]!r} must be a number above 1")
    sizes = []
    size = first
    while size <= last * (1 + 1e-9):
        sizes.append(size)
        size *= factor
        if len(sizes) > _MOST_SIZES:
            raise refuse(f"makes more than {_MOST_SIZES} sizes; take a larger factor")
    return sizes
