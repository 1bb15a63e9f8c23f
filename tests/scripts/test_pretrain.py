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


HOLD = """
import sys
from pathlib import Path
from vla.overwatch.file_lock import lock_file
assert lock_file(Path(sys.argv[1]), inherited=False) is not None
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="the system has no such locks")
def test_a_folder_that_another_training_writes_to(tmp_path: Path) -> None:
    """As when a job is started again while the first one still lives."""
    from vla.training import pretrain

    config = PretrainConfig(run_root_dir=tmp_path, run_id="run", device="cpu", resume="auto")
    config.run_dir.mkdir()
    command = [sys.executable, "-c", HOLD, str(config.run_dir / pretrain.LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(cli.UserError, match=r"^run_id: another training is writing to .*run; stop it"):
            pretrain.run(config)
        other.communicate()
    (file,) = (path.name for path in config.run_dir.iterdir() if path.name != "console.log")
    assert file == pretrain.LOCK  # nothing has been trained


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    from vla.training import pretrain

    (tmp_path / "file").write_text("")
    with pytest.raises(cli.UserError, match=r"^run_root_dir: .* can't be written \("):
        pretrain.run(PretrainConfig(run_root_dir=tmp_path / "file", device="cpu"))
