"""`--help`: the choices, then only what is chosen; without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.comments import field_comments, summary
from vla.conf.evaluate import EvaluateConfig
from vla.conf.models import ModelRegistry
from vla.conf.models.components import FlowHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.strategies import FSDPShardGradOpConfig

ROOT = Path(__file__).resolve().parents[2]


def help_of(line: str, capsys: pytest.CaptureFixture[str], config_class: type = PretrainConfig) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.run(config_class, lambda config: 0, line.split())
    assert stopped.value.code == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_choices_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("--help", capsys)
    first_flag = text.index("\nRun\n")
    for choice in [*(member.model_id for member in ModelRegistry), "libero-object", "full-finetune", "fsdp-full-shard"]:
        found = re.search(rf"\s{re.escape(choice)}[\s,]", text)
        assert found is not None and found.start() < first_flag
    for chosen in ("vggt-tiny", "libero-mini", "align", "ddp", "pose-gripper"):
        assert f"\n*  {chosen} " in text
    assert text.index("--model.align.*") < text.index("--model.vggt.*") < text.index("--dataset.*")


def test_a_large_family_is_told_about_when_one_of_it_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    other, chosen = help_of("--help", capsys), help_of("--help --model.type prism-dinosiglip+7b", capsys)
    assert re.search(r"^   Prismatic, \d+ +reproduction-llava-v15\+7b, ", other, re.MULTILINE)
    assert "CLIP and Llama-2 13B" not in other and "\n*  vggt-tiny " in other
    assert re.search(r"^   prism-clip\+13b +CLIP and Llama-2 13B$", chosen, re.MULTILINE)
    assert re.search(r"^\*  prism-dinosiglip\+7b ", chosen, re.MULTILINE) and "\n   vggt-tiny " in chosen


def test_only_the_flags_of_what_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("--help", capsys)
    assert "--model.align.learning_rate number" in text and "--model.finetune.learning_rate" not in text
    assert "(other stages: --model.finetune.*, --model.full_finetune.*)" in " ".join(text.split())
    assert "--model.action_head.pose_weight" in text and "--model.action_head.solver" not in text
    text = help_of(
        "--stage finetune --model.finetune.strategy.type fsdp-full-shard --model.action_head.type flow -h", capsys
    )
    assert "--model.finetune.learning_rate number" in text and "--model.align.learning_rate" not in text
    assert "--model.finetune.strategy.cpu_offload" in text and "bucket_cap_mb" not in text
    assert "--model.action_head.solver" in text and "--model.action_head.pose_weight" not in text


def test_values_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("log_every_steps: 77")
    text = help_of(f"--help --config_path {path} --model.type vggt-llama-7b --seed 5", capsys)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("   --")}
    assert rows["--seed"][:2] == ["int", "5"]
    assert rows["--log_every_steps"][:2] == ["int?", "77"]
    assert rows["--model.align.epochs"][:2] == ["int", "50"]
    assert rows["--dry_run"][:2] == ["true|false", "false"]
    assert rows["--run_id"][:2] == ["text?", "none"]
    assert rows["--model.align.lr_multipliers"][:2] == ["{name:", "number}"]
    assert "of new weights, the order of samples, and noise" in text


def test_bad_flags_are_named_and_the_rest_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("--help --model.type vggt-llama-7b --seed x --config_path nowhere.yaml", capsys)
    assert "\n*  vggt-llama-7b" in text
    assert text.splitlines()[-2:] == [
        "note: config_path: no such file, got 'nowhere.yaml'",
        "note: seed: must be an integer, got 'x'",
    ]
    assert "note: model.type: must be one of" in help_of("--model.type gpt --help", capsys)


def test_other_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("--help", capsys, EvaluateConfig)  # whose defaults alone are not valid
    assert "--checkpoint path?" in text and "--model" not in text


def test_lines_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(len(line) for line in help_of("--help", capsys).splitlines()) <= 120


def test_comments_of_fields() -> None:
    comments = field_comments(FlowHeadConfig)
    assert comments["solver"] == "euler | midpoint"
    assert comments["chunk_size"] == "actions predicted at once, the first for the current frame"  # of the base class
    assert summary(FSDPShardGradOpConfig).startswith("FSDP2 that keeps gathered parameters")
    assert field_comments(type(ast.parse("1"))) == {}


@pytest.mark.parametrize("line", ["--help", "--stage foo", "--help --model.type vggt-llama-7b"])
def test_no_torch(line: str) -> None:
    program = (
        "import sys\nfrom vla.conf import cli\nfrom vla.conf.pretrain import PretrainConfig\n"
        "try:\n    cli.run(PretrainConfig, print, sys.argv[1:])\nfinally:\n"
        "    assert not {'torch', 'numpy', 'transformers', 'timm', 'h5py'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", program, *line.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
