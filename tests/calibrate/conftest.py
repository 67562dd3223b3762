"""Files named test_torch_* only where torch is installed."""

import importlib.util

collect_ignore_glob = ["test_torch_*.py"] if importlib.util.find_spec("torch") is None else []
