"""Runs with adapters: they train, stop, resume to the bit, begin with weights of a model without, and are exported."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.conf.convert import ExportConfig
from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.openvla import OpenVLATinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.errors import UserError
from vla.models.lora import MARK, merge_lora, plain_name
from vla.models.materialize import get_model
from vla.serving.export import export
from vla.training import pretrain
from vla.training.checkpoint import load_weights, parameters_as_published, save_checkpoint
from vla.training.checkpoint_files import CheckpointWriter, read_manifest, read_tensors
from vla.training.inference import load_for_inference

MINI = LiberoMiniConfig(max_episodes_per_task=2)
pytestmark = [
    pytest.mark.skipif(not list(MINI.root.glob("*.hdf5")), reason="libero-mini is not here"),  # type: ignore[union-attr]
    pytest.mark.skipif(find_spec("peft") is None, reason="needs the lora extra"),
]
RANK2 = LoRAConfig(rank=2)


def run_config(root: Path, steps: int, lora: LoRAConfig, run_id: str = "a-run", **values: Any) -> PretrainConfig:
    budget = {"max_steps": steps, "global_batch_size": 2, "per_device_batch_size": 2, "learning_rate": 1e-2}
    model = OpenVLATinyConfig(lora=lora)
    return PretrainConfig(
        model=replace(model, full_finetune=replace(model.full_finetune, **budget)), dataset=MINI,
        stage=Stage.FULL_FINETUNE, run_id=run_id, run_root_dir=root, device="cpu", report=False, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(every_epochs=None, max_batches=1),
        checkpoint=CheckpointConfig(every_epochs=None), **values,
    )  # fmt: skip


def weights(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run_dir / "checkpoints" / f"step-{step:06d}" / "model"
    return {name: value for path in folder.iterdir() for name, value in read_tensors(path).items()}


def test_resumes_to_the_bit_and_is_exported(tmp_path: Path) -> None:
    assert pretrain.run(run_config(tmp_path, 2, RANK2, "straight")) == 0
    assert pretrain.run(run_config(tmp_path, 1, RANK2)) == 0
    assert pretrain.run(run_config(tmp_path, 2, RANK2, resume="auto")) == 0
    straight, resumed = (weights(tmp_path / name, 2) for name in ("straight", "a-run"))
    before = weights(tmp_path / "a-run", 1)
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name
        assert MARK in name or torch.equal(before[name], value), name
    assert any(value.any() for name, value in straight.items() if ".lora_B" in name)

    assert export(ExportConfig(checkpoint=tmp_path / "straight", output=tmp_path / "out")) == 0
    assert (tmp_path / "out" / "lora_adapter" / "adapter_model.safetensors").is_file()
    _, _, model = load_for_inference(tmp_path / "straight")
    merge_lora(model)
    read = get_model(replace(OpenVLATinyConfig(), pretrained=True, weights=str(tmp_path / "out")))
    for name, value in read.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_begins_with_weights_of_a_model_without_adapters(tmp_path: Path) -> None:
    assert pretrain.run(run_config(tmp_path, 1, LoRAConfig(), "plain")) == 0
    plain = tmp_path / "plain"
    assert pretrain.run(run_config(tmp_path, 1, RANK2, "adapted", pretrained_checkpoint=plain)) == 0
    expected, found = weights(plain, 1), weights(tmp_path / "adapted", 1)
    assert {plain_name(name) for name in found if MARK not in name} == set(expected)
    for name, value in found.items():
        assert MARK in name or torch.equal(value, expected[plain_name(name)]), name
    with pytest.raises(UserError, match=r"lora_A.*is not in the model"):
        load_weights(get_model(OpenVLATinyConfig()), tmp_path / "adapted" / "checkpoints" / "step-000001")


def test_of_published_backbones_adapters_alone_are_kept(tmp_path: Path) -> None:
    config = run_config(tmp_path, 1, RANK2)
    published = replace(config, model=replace(config.model, pretrained=True))
    model = get_model(config.model)
    names = parameters_as_published(published, model)
    assert names and {name.partition(".")[0] for name in names} == {"vision_backbone", "llm_backbone"}
    assert not any(MARK in name for name in names) and not parameters_as_published(config, model)

    assert pretrain.run(config) == 0
    from vla.overwatch.distributed import initialize_distributed

    strategy = pretrain.build_strategy(replace(config, run_id="again"), initialize_distributed("cpu"))
    strategy.config = replace(strategy.config, model=replace(strategy.config.model, pretrained=True))
    save_checkpoint(strategy, CheckpointWriter(tmp_path / "kept"))
    assert read_manifest(tmp_path / "kept")["adapters_of_published"] == ["llm_backbone", "vision_backbone"]
    kept = read_tensors(tmp_path / "kept" / "model" / "llm_backbone.safetensors")
    assert kept and all(MARK in name for name in kept)
    again = get_model(config.model, seed=9)
    before = {name: value.clone() for name, value in again.state_dict().items()}
    load_weights(again, tmp_path / "kept")
    for name, value in again.state_dict().items():
        expected = before[name] if name in names else strategy.model.state_dict()[name]
        assert torch.equal(value, expected), name
