"""Stages: what trains, what the table says, what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from vla.batches import ActionBatch
from vla.conf.stage import StageConfig
from vla.models.freezing import GroupRow, apply_stage, format_table
from vla.models.vlas.atlas import AtlasVLA

GROUPS = ("vision_backbone", "llm_backbone", "geometry_encoder", "fusion", "action_head")


@pytest.mark.parametrize("trainable", [GROUPS[2:], GROUPS[1:], GROUPS, ("fusion",)], ids=len)
def test_gradients_reach_exactly_the_trainable_groups(
    trainable: tuple[str, ...], tiny_model: AtlasVLA, make_batch: Callable[..., ActionBatch]
) -> None:
    apply_stage(tiny_model, StageConfig(trainable=trainable))
    tiny_model(make_batch(tiny_model.config)).step_loss.mean().backward()
    reached = {name.partition(".")[0] for name, p in tiny_model.named_parameters() if p.grad is not None}
    assert reached == set(trainable)
    assert all((p.grad is not None) == p.requires_grad for p in tiny_model.parameters())


def test_parameters_that_nothing_uses_never_train(tiny_model: AtlasVLA) -> None:
    config = replace(tiny_model.config, geometry_encoder=replace(tiny_model.config.geometry_encoder, use_pose=False))
    config = replace(config, geometry_encoder=replace(config.geometry_encoder, layers=(0,)))
    model = AtlasVLA(config)
    apply_stage(model, StageConfig(trainable=GROUPS))
    stuck = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert stuck == model.unused_parameters()
    assert {name.rpartition("blocks.")[2].partition(".")[0] for name in stuck} == {"1"}


def test_a_later_stage_unfreezes(tiny_model: AtlasVLA) -> None:
    tiny_model.train()
    apply_stage(tiny_model, StageConfig(trainable=("fusion",)))
    assert not tiny_model.llm_backbone.training and tiny_model.fusion.training
    apply_stage(tiny_model, StageConfig(trainable=GROUPS))
    assert tiny_model.llm_backbone.training and not tiny_model.frozen_groups
    assert all(parameter.requires_grad for parameter in tiny_model.parameters())


def test_refusals(tiny_model: AtlasVLA) -> None:
    with pytest.raises(ValueError, match=r"trainable: must be of vision_backbone, .*, got 'projector'"):
        apply_stage(tiny_model, StageConfig(trainable=("projector",)))
    with pytest.raises(ValueError, match="nothing would train"):
        apply_stage(tiny_model, StageConfig())


def test_table() -> None:
    table = format_table([GroupRow("llm_backbone", 1200, 0), GroupRow("fusion", 34, 34)])
    assert table.splitlines() == [
        "module group  parameters  trainable",
        "llm_backbone       1,200          0  frozen",
        "fusion                34         34  trains",
        "total              1,234         34  trains in part",
    ]
