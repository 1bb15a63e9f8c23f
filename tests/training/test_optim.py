"""The optimizer's parameter groups."""

from dataclasses import replace

import pytest
import torch
from toys import ToyConfig, toy_config, toy_model, toy_strategy

from vla.conf.stage import OptimizerConfig
from vla.training.optim import freeze_multiplied_by_zero, get_optimizer, lr_scale, parameter_owners


def groups(tmp_path, world_size: int = 1, **stage):
    config = toy_config(tmp_path / "run", **stage)
    model = toy_model(config)
    freeze_multiplied_by_zero(model, config.stage_config)
    optimizer = get_optimizer(model, config.stage_config, parameter_owners(model), world_size)
    return optimizer, {name: group for group in optimizer.param_groups for name in group["names"]}


def test_every_tensor_has_its_owner(tmp_path):
    model = toy_model(toy_config(tmp_path / "run"))
    owners = parameter_owners(model)
    assert owners.keys() == model.state_dict().keys()
    assert {name: name.split(".")[0] for name in owners} == owners


def test_tied_tensors_are_listed_once(tmp_path):
    model = toy_model(toy_config(tmp_path / "run"))
    model.fusion[1][0].weight = model.fusion[0][0].weight
    assert "fusion.0.0.weight" in parameter_owners(model) and "fusion.1.0.weight" not in parameter_owners(model)


def test_only_trainable_parameters_and_decay_only_on_matrices(tmp_path):
    _, named = groups(tmp_path, weight_decay=0.3)
    assert {name.split(".")[0] for name in named} == {"fusion", "action_head"}
    for name, group in named.items():
        is_matrix = name in ("fusion.0.0.weight", "fusion.1.0.weight", "action_head.weight")
        assert group["weight_decay"] == (0.3 if is_matrix else 0.0), name


def test_decay_on_everything(tmp_path):
    _, named = groups(tmp_path, optimizer=OptimizerConfig(decay_norms_and_biases=True))
    assert {group["weight_decay"] for group in named.values()} == {0.01}


def test_multipliers(tmp_path):
    stage = {"trainable": ToyConfig.module_groups, "lr_multipliers": {"llm_backbone": 0.1, "vision_backbone": 0.0}}
    _, named = groups(tmp_path, **stage)
    assert named["llm_backbone.weight"]["lr"] == pytest.approx(1e-3)
    assert named["fusion.0.0.weight"]["lr"] == pytest.approx(1e-2)
    assert not any(name.startswith("vision_backbone") for name in named)


def test_group_of_multiplier_zero_takes_no_gradient(tmp_path):
    config = toy_config(
        tmp_path / "run", trainable=("fusion", "action_head"), lr_multipliers={"fusion": 0.0}, max_steps=2
    )
    strategy = toy_strategy(config)
    assert not any(parameter.requires_grad for parameter in strategy.model.fusion.parameters())
    strategy.run_training()


def test_nothing_trains(tmp_path):
    with pytest.raises(ValueError, match="nothing trains"):
        groups(tmp_path, lr_multipliers={"fusion": 0.0, "action_head": 0.0})


def test_sgd(tmp_path):
    optimizer, _ = groups(tmp_path, optimizer=OptimizerConfig(name="sgd", momentum=0.8, nesterov=True))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.8 and optimizer.param_groups[0]["nesterov"]


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 8), ("sqrt", 8**0.5)])
def test_scaling_with_the_number_of_processes(tmp_path, capsys, rule, factor):
    assert lr_scale(rule, 8) == factor and lr_scale(rule, 1) == 1
    optimizer, _ = groups(tmp_path, world_size=8, lr_scaling=rule)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(1e-2 * factor)] * 4
    announced = "learning rate 0.01 is scaled by" in capsys.readouterr().err
    assert announced == (rule != "none")


def test_sgd_trains_and_resumes(tmp_path):
    config = toy_config(tmp_path / "run", optimizer=OptimizerConfig(name="sgd"), epochs=1)
    strategy = toy_strategy(config)
    strategy.run_training()
    longer = replace(config, model=replace(config.model, align=replace(config.stage_config, epochs=2)))
    resumed = toy_strategy(longer, resume_from=strategy.store.newest())
    assert resumed.optimizer.state_dict()["state"].keys() == strategy.optimizer.state_dict()["state"].keys()
    resumed.run_training()
