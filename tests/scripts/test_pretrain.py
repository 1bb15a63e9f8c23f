"""scripts/pretrain.py as users start it: the commands of the documentation, alone and under torchrun."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").glob("*.yaml"))]


def _one_line(text: str) -> str:
    """With commands that go on in the next line, of a comment too, in one."""
    return re.sub(r"\\\n#? *", "", text)


COMMANDS = sorted({
    match.group(1).partition("#")[0].strip()
    for page in PAGES
    for match in re.finditer(r"scripts/pretrain\.py( --[^`\n]+)", _one_line(page.read_text(encoding="utf-8")))
})  # fmt: skip


def test_there_are_commands() -> None:
    assert "--model.type vggt-llama-7b --stage align" in COMMANDS and len(COMMANDS) > 5


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "--help"])
def test_documented_commands_are_valid(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cli.parse(PretrainConfig, shlex.split(command))


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
