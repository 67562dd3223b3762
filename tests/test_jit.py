"""Compiled code is cached where that is possible and runs where it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import simdeep

LOOP = """
from simdeep.jit import njit

@njit
def double(x):
    return 2 * x
"""
RUN = "from simdeep.loop import double; assert double(21) == 42"


@pytest.fixture
def read_only(tmp_path):
    """A package in whose folder nothing can be cached: a file is where the cache would be."""
    package = tmp_path / "install" / "simdeep"
    package.mkdir(parents=True)
    for name in ("__init__.py", "jit.py"):
        (package / name).write_text((Path(simdeep.__file__).parent / name).read_text())
    (package / "loop.py").write_text(LOOP)
    (package / "__pycache__").touch()
    return package.parent


def run(install, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        env=clean | {"PYTHONPATH": str(install)} | environment,
        cwd=install,
        capture_output=True,
        text=True,
        check=False,
    )


def test_numba_cache_dir_is_respected(read_only, tmp_path):
    cache = tmp_path / "cache"
    found = run(read_only, NUMBA_CACHE_DIR=str(cache))
    assert found.returncode == 0, found.stderr
    assert list(cache.rglob("loop.double*.nbi"))


def test_a_read_only_install_caches_in_the_users_folder(read_only, tmp_path):
    found = run(read_only, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert found.returncode == 0, found.stderr
    assert list(tmp_path.rglob("loop.double*.nbi"))
    assert list(read_only.rglob("*.nbi")) == []


def test_nothing_writable_compiles_in_memory(read_only, tmp_path):
    nowhere = tmp_path / "nowhere"
    nowhere.touch()
    home = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere)}
    found = run(read_only, **home)
    assert found.returncode == 0, found.stderr
    assert list(tmp_path.rglob("*.nbi")) == []
