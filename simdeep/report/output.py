"""Writes the files of `--out`: all of them or none, into place only when they are complete."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import simdeep
from simdeep.errors import InputError, Problem
from simdeep.report.result_json import to_json

if TYPE_CHECKING:
    from simdeep.api import Result
    from simdeep.report.charts import BubbleCurve
    from simdeep.spec.scenario import Scenario

RUN_FILES = (
    "pipeline.png",
    "time_by_rank.png",
    "block.png",
    "memory.png",
    "stragglers.png",
    "bubble_vs_microbatches.png",
    "timeline.parquet",
    "timeline.csv",
    "scenario.yaml",
    "result.json",
)
"""Every file a run may write into its folder."""

Stage = Callable[[str], None]


class OutputFolder:
    """A folder whose files appear together when the `with` block ends well, else not at all.

    Files are written beside their place and moved there at the end. Of a folder that is there, the
    files named in `names` are replaced (and removed if this time there is none); others stay.

    Raises:
        InputError: the folder cannot be made or written to, before any work is done.
    """

    def __init__(self, path: str | Path, names: Sequence[str]):
        self.shown = str(path)
        self.target = Path(path).absolute()
        self.names = tuple(names)
        self.written: list[str] = []
        self._work = self.target

    def __enter__(self) -> OutputFolder:
        if "\0" in self.shown:
            raise self._error("a path cannot contain a NUL")
        with self._explained():
            if self.target.exists() and not self.target.is_dir():
                raise self._error("there is a file of that name; name a folder")
            if blocked := [name for name in self.names if (self.target / name).is_dir()]:
                raise self._error(f"the folder {blocked[0]} in it is in the way of a file")
            name = f".simdeep-{secrets.token_hex(4)}.tmp"
            # Beside the target a move is one step; inside it, where it may be a file system of its
            # own, files move one by one.
            inside = self.target.is_dir()
            if not inside:
                self.target.parent.mkdir(parents=True, exist_ok=True)
            self._work = (self.target if inside else self.target.parent) / name
            self._work.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._explained():
                    self._move()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _move(self) -> None:
        if not self.target.exists():
            try:
                self._work.rename(self.target)
                return
            except OSError:
                if not self.target.is_dir():  # else another run made it meanwhile
                    raise
        for name in self.names:
            if name in self.written:
                os.replace(self._work / name, self.target / name)
            else:
                (self.target / name).unlink(missing_ok=True)

    def write(self, name: str, save: Callable[[Path], object]) -> None:
        """Write one of `names` with a function that takes the path."""
        assert name in self.names
        with self._explained(name):
            save(self._work / name)
        self.written.append(name)

    def write_text(self, name: str, text: str) -> None:
        """Write one of `names` as UTF-8 text."""
        self.write(name, lambda path: path.write_text(text, encoding="utf-8", newline="\n"))

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise self._error(f"cannot write: {reason}", name) from error

    def _error(self, message: str, name: str = "") -> InputError:
        return InputError([Problem(f"--out {self.shown}", name, message)])


def write_run(
    folder: OutputFolder,
    result: Result,
    document: dict[str, Any],
    curve: BubbleCurve | None = None,
    stage: Stage = lambda text: None,
) -> None:
    """Write charts, timeline, resolved scenario and JSON of a run.

    Args:
        folder: open, with `RUN_FILES`.
        result: what ran.
        document: `result_json` of it.
        curve: the bubble at several numbers of micro-batches, if it is to be drawn.
        stage: told what is being written.
    """
    from simdeep.analysis.frame import spans_frame
    from simdeep.analysis.memory import memory as find_memory
    from simdeep.analysis.view import one_of_each
    from simdeep.report import charts
    from simdeep.report.timeline_csv import write_spans

    timeline, attribution, memory = result.timeline, result.attribution, result.memory
    if result.stragglers is not None:
        # Thousands of rows cannot be read: the first GPU of every pipeline rank is drawn, and every
        # GPU in the heat map.
        lost = result.stragglers.lost_ns
        timeline = one_of_each(timeline, result.stragglers.peers)
        memory = find_memory(timeline, result.static.parts, memory.capacity_gib)
        per_node = result.scenario.topology.gpus_per_node
        stage("drawing every GPU")
        folder.write(
            "stragglers.png", lambda path: charts.save(charts.gpu_heatmap(lost, per_node), path)
        )
    stage("drawing the pipeline")
    folder.write("pipeline.png", lambda path: charts.save(charts.pipeline_page(timeline), path))
    stage("drawing where the time goes")
    folder.write(
        "time_by_rank.png", lambda path: charts.save(charts.time_by_rank(attribution), path)
    )
    stage("drawing a block")
    folder.write("block.png", lambda path: charts.save(charts.overlapped_block(timeline), path))
    stage("drawing memory")
    folder.write("memory.png", lambda path: charts.save(charts.memory_by_rank(memory), path))
    if curve is not None:
        folder.write(
            "bubble_vs_microbatches.png",
            lambda path: charts.save(charts.bubble_curves([curve]), path),
        )
    stage("writing the timeline")
    name = "timeline.parquet" if _has_pyarrow() else "timeline.csv"
    folder.write(name, lambda path: write_spans(spans_frame(timeline), path))
    folder.write_text("scenario.yaml", scenario_yaml(result.scenario))
    folder.write_text("result.json", to_json(document))


def _has_pyarrow() -> bool:
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def scenario_yaml(scenario: Scenario) -> str:
    """The resolved scenario as a scenario file that means the same wherever it lies."""
    from simdeep.spec.resources import catalogue

    plain = scenario.resolved()
    if scenario.calibration is not None and plain["calibration"] not in catalogue("calibration"):
        plain["calibration"] = str(scenario.calibration.resolve())
    if scenario.routing_file is not None and plain["routing"]["file"] not in catalogue("routing"):
        plain["routing"]["file"] = str(scenario.routing_file.resolve())
    return scenario_text(scenario.name, plain)


def scenario_text(name: str, plain: dict[str, Any]) -> str:
    """Resolved values as a scenario file."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    stream.write(f"# {name}, resolved by simdeep {simdeep.__version__}.\n")
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(plain, stream)
    return stream.getvalue()
