"""Runs that are killed at random moments and resumed end with the bits of one that was not disturbed.

The short form of `python scripts/bench.py faults`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATHS
from workers import skip_unless_it_runs


@pytest.mark.parametrize("case, kills", [("ddp-1", 5), ("fsdp-2", 2)])
def test_killed_and_resumed(tmp_path, case, kills):
    skip_unless_it_runs(case)
    program = Path(__file__).with_name("fault_program.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), case, str(kills)], text=True, capture_output=True, timeout=600,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report, log = json.loads(done.stdout), (tmp_path / "log").read_text()
    assert report["problems"] == [], (report, log[-3000:])
    assert 1 <= report["kills"] <= kills and report["most_lost_steps"] <= 4
    if report["of_one_process"]:
        assert "is gone: it ended without a word" in log
