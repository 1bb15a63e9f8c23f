"""scripts/pretrain.py as users start it, alone and under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run"]], ids=["python", "torchrun"])
def test_missing_weights_end_the_run_in_one_line(launcher: list[str], tmp_path: Path) -> None:
    flags = f"--model.type vggt-llama-7b --stage align --run_root_dir {tmp_path}".split()
    command = [sys.executable, *launcher, "scripts/pretrain.py", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == (1 if launcher else 2)  # torchrun has its own exit code, and its own words after ours
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: model.vggt.weights: 'facebook/VGGT-1B' is neither a local folder nor in the")
    assert line.endswith(
        "pass --model.vggt.weights DIR --model.llm.weights DIR, or --model.pretrained false for random weights"
    )
    assert launcher or "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    from vla.training import pretrain

    (tmp_path / "file").write_text("")
    with pytest.raises(cli.UserError, match=r"^run_root_dir: .* can't be written \("):
        pretrain.run(PretrainConfig(run_root_dir=tmp_path / "file", device="cpu"))
