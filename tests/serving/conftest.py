"""The simulator's stand-in of tests/evaluation/simulator, for the processes that serve it, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "evaluation" / "simulator"))
