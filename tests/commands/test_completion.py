"""Completion: the candidates, and that the shells take the scripts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vla.commands.candidates import candidates
from vla.commands.completion import SCRIPTS
from vla.commands.registry import available_commands
from vla.conf.models import ModelConfig

ROOT = Path(__file__).resolve().parents[2]


def words(*typed: str) -> list[str]:
    return [item.word for item in candidates(typed)]


def test_commands_and_sub_commands() -> None:
    assert words("") == words() == list(available_commands())
    assert words("eva") == ["evaluate"]
    assert words("data", "re") == ["record", "render-vqa", "render-defects"]
    assert "align-step" in words("bench", "")
    assert words("nothing", "") == []


def test_flags_are_those_of_what_is_chosen() -> None:
    assert "--model.align.learning_rate" in words("train", "--model.align.l")
    assert "--model.finetune.learning_rate" not in words("train", "--model.")
    assert "--model.finetune.learning_rate" in words("train", "--stage", "finetune", "--model.")
    assert "--model.action_head.solver" in words("train", "--model.action_head.type", "flow", "--model.action_head.")
    assert words("evaluate", "--su") == ["--suite"]
    assert "--episodes" in words("evaluate", "--suite", "libero-object", "--e")
    assert words("train", "--config") == ["--config_path"]


def test_values() -> None:
    assert words("train", "--stage", "") == ["align", "finetune", "full-finetune"]
    assert words("train", "--stage=f") == ["--stage=finetune", "--stage=full-finetune"]
    assert words("train", "--stage", "=", "f") == ["finetune", "full-finetune"]  # as bash cuts it
    assert words("train", "--stage", "=") == ["align", "finetune", "full-finetune"]
    assert set(words("train", "--model.type", "")) == set(ModelConfig.get_known_choices())
    assert words("train", "--model.align.precision", "b") == ["bf16"]
    assert words("train", "--dry_run", "t") == ["true"]
    assert words("completion", "") == ["bash", "zsh"]


def test_nothing_where_a_file_or_a_number_is_asked_for() -> None:
    assert words("train", "--config_path", "") == []
    assert words("train", "--seed", "") == []
    assert words("train", "--dataset.root", "/") == []


def test_half_a_command_line_is_no_error() -> None:
    assert "--seed" in words("train", "--stage", "foo", "--s")
    assert "--seed" in words("train", "--config_path", "nowhere.yaml", "--s")
    assert "--seed" in words("train", "stray", "--s")


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `vla` is a command."""
    program = tmp_path / "vla"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vla "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_bash(path: dict[str, str]) -> None:
    bash = shutil.which("bash") or pytest.skip("no bash")
    program = SCRIPTS["bash"] + (
        '\nCOMP_WORDS=(vla train --stage = fu); COMP_CWORD=4; _vla; echo "${COMPREPLY[@]}"\n'
        "COMP_WORDS=(vla train --config_path ''); COMP_CWORD=3; _vla; echo \"${#COMPREPLY[@]}\"\n"
        'COMP_WORDS=(vla ev); COMP_CWORD=1; _vla; echo "${COMPREPLY[@]}"\ncomplete -p vla\n'
    )
    done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.splitlines() == ["full-finetune", "0", "evaluate", "complete -o default -F _vla vla"]


def test_zsh(path: dict[str, str]) -> None:
    zsh = shutil.which("zsh") or pytest.skip("no zsh")
    program = (
        "compdef() { print -r -- defined $* }\n"
        + SCRIPTS["zsh"]
        + "\n_describe() { print -rl -- ${(P)${@[-1]}} }\n_files() { print files }\n"
        "words=(vla train --stage fu); CURRENT=4; _vla\nwords=(vla train --config_path ''); CURRENT=4; _vla\n"
    )
    done = subprocess.run([zsh, "-f", "-c", program], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.splitlines() == ["defined _vla vla", "full-finetune:", "files"]
