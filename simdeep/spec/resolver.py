"""What every kind of scenario does with the files its keys name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from simdeep.errors import InputError
from simdeep.spec.validate import Reporter
from simdeep.spec.yamlio import split_key

T = TypeVar("T")


class Resolver:
    """Reads the files that the keys of a scenario at `path` name; problems go to `report`."""

    def __init__(self, path: Path, report: Reporter):
        self.path = path
        self.report = report

    def base(self, key: str) -> Path | None:
        """Paths in a file are relative to the file, paths in flags to the working directory."""
        return None if self.report.source.override(split_key(key)) else self.path.parent

    def read(self, key: str, name: str, load: Callable[[str, Path | None], T]) -> T | None:
        """What the file of a key holds; None if it cannot be read, which is then reported."""
        if split_key(key) in self.report.tainted:
            return None
        try:
            return load(name, self.base(key))
        except InputError as error:
            for problem in error.problems:
                self.report.add_problem(problem, at=split_key(key))
            return None

    def name(self, key: str, text: str, shipped: Collection[str]) -> str:
        """A shipped name as it is, a path made absolute, so that it means the same anywhere."""
        return text if text in shipped else str(((self.base(key) or Path()) / text).resolve())
