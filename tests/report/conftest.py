"""Charts are tested on the small programs of the analysis tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
