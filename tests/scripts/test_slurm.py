"""The batch scripts, with stand-ins for Slurm's commands: what they start, and when the job is queued again."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "experiments/slurm").glob("*.sbatch"))
FAKE = """#!/usr/bin/env bash
echo "$(basename "$0")" "$@" >> "$CALLS"
[ "$(basename "$0")" != srun ] || exit "$CODE"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("code", [0, 1, 75])
def test_requeued_only_if_there_is_more_to_do(tmp_path, script, code):
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "CODE": str(code)}
    environment |= {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "12"}
    done = subprocess.run(["bash", str(script), "--run_id", "a b"], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "srun --kill-on-bad-exit=0 python scripts/pretrain.py --run_id a b --resume auto"
    assert calls[1:] == (["scontrol requeue 12"] if code == 75 else [])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_options_that_the_rest_depends_on(script):
    lines = script.read_text().splitlines()
    for option in ("--requeue", "--signal=USR1@600", "--open-mode=append"):
        assert f"#SBATCH {option}" in lines  # not B:USR1, which would reach the shell alone
