"""The published names of nanoVLM's runs."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.nanovlm import NanoVLM460MConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import Stage
from vla.errors import UserError
from vla.training.run_names import published_run_name, with_run_name

NAME = (  # of the published recipe on 8 GPUs, as its script prints it
    "nanoVLM_siglip2-base-patch16-512_2048_mp4_SmolLM2-360M-Instruct_8xGPU_bs128_40000_"
    "lr_vision_5e-05-language_5e-05-0.00512"
)


def config(root: Path, **values: Any) -> PretrainConfig:
    settings = {"model": NanoVLM460MConfig(), "stage": Stage.FULL_FINETUNE, "run_id": "published"}
    return PretrainConfig(**(settings | {"run_root_dir": root} | values))  # type: ignore[arg-type]


def test_the_published_name(tmp_path: Path) -> None:
    assert published_run_name(config(tmp_path), 8) == NAME
    assert re.fullmatch(re.escape(NAME) + r"_\d{4}-\d{6}", with_run_name(config(tmp_path), 8).run_id or "")


def test_a_frozen_group_has_rate_zero_and_epochs_are_named(tmp_path: Path) -> None:
    model = NanoVLM460MConfig()
    stage = replace(model.align, max_steps=None, epochs=2, lr_multipliers={})
    name = published_run_name(config(tmp_path, model=replace(model, align=stage), stage=Stage.ALIGN), 1)
    assert name.endswith("_1xGPU_bs128_2epochs_lr_vision_0-language_0-5e-05")


def test_resuming_finds_the_newest_run_of_this_name(tmp_path: Path) -> None:
    for number, name in enumerate((f"{NAME}_0101-000000", f"{NAME}_1229-143022", f"{NAME}_1230-000000", "other")):
        if number != 2:  # it has no checkpoint
            (tmp_path / name / "checkpoints" / "step-000001").mkdir(parents=True)
    assert with_run_name(config(tmp_path, resume="auto"), 8).run_id == f"{NAME}_1229-143022"
    assert with_run_name(config(tmp_path, resume="auto"), 4).run_id != f"{NAME}_1229-143022"
    assert with_run_name(config(tmp_path, run_id="mine"), 8).run_id == "mine"


def test_a_run_that_its_launcher_starts_again_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchrun --max-restarts` and nothing else; also where the first attempt died before it had saved."""
    for number, name in enumerate((f"{NAME}_0101-000000", f"{NAME}_0102-000000")):
        (tmp_path / name / "checkpoints" / "step-000001").mkdir(parents=True)
        os.utime(tmp_path / name, (number, number))
    mine = with_run_name(config(tmp_path), 8).run_id or ""
    assert mine not in (f"{NAME}_0101-000000", f"{NAME}_0102-000000")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert with_run_name(config(tmp_path), 8).run_id == f"{NAME}_0102-000000"
    (tmp_path / mine).mkdir()
    assert with_run_name(config(tmp_path), 8).run_id == mine


def test_other_models_have_no_such_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run_id: must be a name of your own: published is for nanoVLM's models"):
        with_run_name(config(tmp_path, model=VGGTTinyConfig()), 1)
