"""What every registered model promises, on the meta device: nothing is allocated, whatever its size."""

import pytest
import torch
from torch import nn

from vla.conf.models import ModelRegistry
from vla.conf.stage import Stage
from vla.models.base import BaseModel
from vla.models.freezing import apply_stage, format_table
from vla.models.materialize import get_model


@pytest.fixture(scope="module", params=list(ModelRegistry), ids=lambda member: member.model_id)
def model(request: pytest.FixtureRequest) -> BaseModel:
    config = request.param.value()
    model = get_model(config, device="meta")
    model.registered_config = config
    return model


def test_nothing_is_allocated(model: BaseModel) -> None:
    assert all(parameter.is_meta and parameter.dtype == torch.float32 for parameter in model.parameters())


def test_groups_hold_every_parameter_once(model: BaseModel) -> None:
    groups = model.module_groups()
    assert tuple(groups) == model.registered_config.module_groups
    held = [id(parameter) for group in groups.values() for parameter in group.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters()}
    assert {key.partition(".")[0] for key in model.state_dict()} <= set(groups)


def test_fsdp_units(model: BaseModel) -> None:
    units = model.fsdp_units()
    assert units and all(isinstance(unit, nn.Module) for unit in units)
    assert len({id(unit) for unit in units}) == len(units)
    inside = {id(module) for module in model.modules()} - {id(model)}
    assert all(id(unit) in inside for unit in units)


@pytest.mark.parametrize("stage", list(Stage))
def test_stages(model: BaseModel, stage: Stage) -> None:
    config = model.registered_config.stage(stage)
    rows = {row.name: row for row in apply_stage(model, config)}
    unused, parts = model.unused_parameters() | model.frozen_parameters, model.module_parts()
    chosen = {parameter for name in config.trainable for parameter in parts.get(name, ())}
    for name, parameter in model.named_parameters():
        trains = name in chosen or name.partition(".")[0] in config.trainable
        assert parameter.requires_grad == (trains and name not in unused)
    for name, row in rows.items():
        assert (row.trainable > 0) == (name in config.trained_groups and row.total > 0)
    assert model.frozen_groups == set(rows) - config.trained_groups
    model.train()
    for name, group in model.module_groups().items():
        assert group.training == (name in config.trained_groups)
    assert f"{sum(row.total for row in rows.values()):,}" in format_table(list(rows.values()))


def test_gradient_checkpointing_can_be_switched(model: BaseModel) -> None:
    model.set_gradient_checkpointing(True)
    model.set_gradient_checkpointing(False)
