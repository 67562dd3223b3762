"""Where a sweep keeps its rows: a file of JSON lines that only grows.

The first line says who wrote it; every other is a row, found by its key. Processes that share a
store take an exclusive lock for every append and first read what others wrote meanwhile, so rows
are neither lost nor written twice. A process killed inside an append leaves at most an unfinished
last line; the next one cuts that off. On network file systems the same lock works where the server
has locks (NFS 3 and 4, Lustre with flock); without, every job writes a store of its own
(`--shard`), to be merged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import simdeep
from simdeep.errors import InputError, Problem
from simdeep.sweep.code import code_digest
from simdeep.sweep.evaluate import Row

_MARK = "simdeep_sweep"
_FORMAT = 1


class Store:
    """A store open for reading and appending; `rows` has everything in it by key.

    Raises:
        InputError: the file cannot be opened or locked, is no store, or is of another version.
    """

    def __init__(self, path: Path, flag: str = "--store"):
        self.path = path
        self.rows: dict[str, Row] = {}
        self._flag = flag
        self._end = 0  # bytes read so far, always a whole number of lines
        self._lines = 0
        self._fd = -1

    def __enter__(self) -> Store:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows whose keys are not there yet, and learn of those that others added."""
        with self._locked():
            self._read_on()
            fresh = {row["key"]: row for row in rows if row["key"] not in self.rows}
            self._write("".join(_line(row) for row in fresh.values()))
            self.rows |= fresh

    def _open(self) -> None:
        with self._explained("open"):
            if self.path.parent != Path():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o666)
            if not os.path.isfile(self.path):
                raise self._error("is not a regular file")
        with self._locked():
            self._check_header()
            self._read_on()

    def _close(self) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._explained("lock"):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if os.fstat(self._fd).st_nlink == 0:
                raise self._error("was removed while the sweep ran")
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _check_header(self) -> None:
        mine = {_MARK: _FORMAT, "version": simdeep.__version__, "code": code_digest()}
        written = os.pread(self._fd, 4096, 0)
        first, newline, _ = written.partition(b"\n")
        line = _line(mine)
        if not newline and line.encode().startswith(written):  # new, or killed while it was made
            with self._explained("write"):
                os.ftruncate(self._fd, 0)
            self._write(line)
            return
        found = _parsed(first)
        if found is None or _MARK not in found:
            raise self._error("is no store of a sweep; name another file")
        if found != mine:
            raise self._error(
                f"is of another version: written by simdeep {found.get('version')} (code "
                f"{found.get('code')}, format {found[_MARK]}), this is {mine['version']} (code "
                f"{mine['code']}, format {_FORMAT}), whose figures may differ; name another file"
            )
        self._end, self._lines = len(first) + 1, 1

    def _read_on(self) -> None:
        """Take in what was appended since; cut off a line that was never finished."""
        with self._explained("read"):
            size = os.fstat(self._fd).st_size
            if size < self._end:
                raise self._error("was cut short while the sweep ran")
            parts = []
            at = self._end
            while at < size:
                part = os.pread(self._fd, 1 << 24, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
        *lines, unfinished = b"".join(parts).split(b"\n")
        for line in lines:
            self._lines += 1
            row = _parsed(line)
            if row is None or not isinstance(row.get("key"), str) or "status" not in row:
                place = f"{self._flag} {self.path}:{self._lines}"
                message = "is no row of a sweep; delete the line, and the sweep computes it again"
                raise InputError([Problem(place, "", message)])
            self.rows.setdefault(row["key"], row)
        self._end = at - len(unfinished)
        if unfinished:
            with self._explained("write"):
                os.ftruncate(self._fd, self._end)

    def _write(self, text: str) -> None:
        left = text.encode()
        self._lines += left.count(b"\n")
        with self._explained("write"):
            while left:
                written = os.write(self._fd, left)
                left = left[written:]
                self._end += written

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise self._error(f"cannot {what} it: {reason}") from error

    def _error(self, message: str) -> InputError:
        return InputError([Problem(f"{self._flag} {self.path}", "", message)])


def merge(into: Store, parts: Iterable[Path]) -> int:
    """Append the rows of other stores; returns how many were new.

    Raises:
        InputError: a part is no store of this version, or two have different rows for one key.
    """
    before = len(into.rows)
    for path in parts:
        if not path.is_file():
            raise InputError([Problem(str(path), "", "no such file")])
        with Store(path, "store") as part:
            for key, row in part.rows.items():
                known = into.rows.get(key)
                if known is not None and _outcome(known) != _outcome(row):
                    message = f"has another answer than {into.path} for {row.get('point')}"
                    raise InputError([Problem(str(path), "", message)])
            into.append(part.rows.values())
    return len(into.rows) - before


def _outcome(row: Row) -> tuple[Any, ...]:
    return row.get("status"), row.get("reason"), row.get("figures")


def _line(row: Row) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
