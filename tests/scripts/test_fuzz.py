"""The short form of `python scripts/bench.py fuzz`: damaged and forged files against every reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_reader_crashes(tmp_path):
    """In a program of its own, which forks the processes that read."""
    found = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "fuzz", "--inputs", "1400", "--json", str(found)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(found.read_text())
    assert result["crashes"] == 0, [row["first_crash"] for row in result["rows"]]
    assert not result["code_executed"] and result["inputs"] == 1400
    for row in result["rows"]:
        assert row["accepted"] + row["refused"] == 200 and row["refused"] > 20, row
