"""The registered VLAs against the published ones."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from vla.conf import cli
from vla.conf.models import ModelConfig
from vla.conf.models.openvla import OpenVLAConfig
from vla.conf.pretrain import PretrainConfig

# which of the vision backbone and the language model are frozen, and whether the latter's last layer is not
TRAINABLE = {
    (False, False, False): ("vision_backbone", "projector", "llm_backbone"),
    (True, False, False): ("projector", "llm_backbone"),
    (False, True, True): ("vision_backbone", "projector", "llm_backbone.last_layer"),
    (True, True, True): ("llm_backbone.last_layer",),
}


def test_every_published_id_with_its_values(golden: Callable[[str], Any]) -> None:
    published = golden("registry_vla")["vla_registry"]
    assert len(published) == 11
    for vla_id, values in published.items():
        config = ModelConfig.get_choice_class(vla_id)()
        assert isinstance(config, OpenVLAConfig)
        stage = config.stage(config.published_stage)
        frozen = tuple(
            values[name] for name in ("freeze_vision_backbone", "freeze_llm_backbone", "unfreeze_last_llm_layer")
        )
        assert stage.trainable == TRAINABLE[frozen]
        found = {
            "vla_id": type(config).model_id, "base_vlm": config.base_vlm, "data_mix": config.data_mix,
            "epochs": stage.epochs, "max_steps": stage.max_steps, "expected_world_size": config.expected_world_size,
            "global_batch_size": stage.global_batch_size, "per_device_batch_size": stage.per_device_batch_size,
            "learning_rate": stage.learning_rate, "weight_decay": stage.weight_decay,
            "max_grad_norm": stage.max_grad_norm, "lr_scheduler_type": stage.schedule.name,
            "warmup_ratio": stage.schedule.warmup_ratio, "train_strategy": type(stage.strategy).strategy_id,
            "enable_gradient_checkpointing": stage.gradient_checkpointing,
            "enable_mixed_precision_training": stage.precision == "bf16",
            "reduce_in_full_precision": asdict(stage.strategy)["reduce_dtype"] == "fp32",
        }  # fmt: skip
        assert found == {name: values[name] for name in found}


def test_parts_are_those_of_the_base_vlm(golden: Callable[[str], Any]) -> None:
    for vla_id in [*golden("registry_vla")["vla_registry"], "openvla-7b"]:
        config = ModelConfig.get_choice_class(vla_id)()
        base = ModelConfig.get_choice_class(config.base_vlm)()
        assert (config.vision_backbone, config.llm_backbone) == (base.vision_backbone, base.llm_backbone)
        assert config.arch_specifier == base.arch_specifier


@pytest.mark.parametrize(("flag", "value", "message"), [
    ("--model.processor.image_size", "56", r"image_size.*must be vision_backbone.image_size \(28\)"),
    ("--model.action_bins", "1", "action_bins.*must be >= 2"),
    ("--model.num_actions", "0", "num_actions.*must be > 0"),
])  # fmt: skip
def test_what_does_not_fit(flag: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli.parse(PretrainConfig, ["--model.type", "openvla-tiny", flag, value])
