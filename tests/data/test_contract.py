"""A checkpoint refuses what it was not made for, field by field, unless the user names the field."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.models.base import ProcessorConfig
from vla.data.contract import describe_differences, find_differences, refuse_differences, refuse_other_data
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.evaluation.simulator.audit import check_contract
from vla.serving.policy import Policy
from vla.serving.preparation import make_protocol

MADE_FOR = replace(LIBERO_CONVENTIONS, image_shape=(128, 128))


def data(proprio: bool = False, **changes) -> SimpleNamespace:
    processor = SimpleNamespace(conventions=MADE_FOR, config=ProcessorConfig(proprio=proprio))
    return SimpleNamespace(processor=processor, train=SimpleNamespace(conventions=replace(MADE_FOR, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"action_names": ("x", "y")},
        {"gripper_open": 1.0},
        {"image_shape": (256, 256)},
        {"camera_orientation": "top_down"},
        {"action_scale": (1.0,) * 7},
        {"rotation": "euler"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_data_is_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError) as caught:
        refuse_other_data(data(**changes))
    message = str(caught.value)
    assert f"conventions.{name} " in message and f"--override_contract conventions.{name}" in message
    assert "\n" not in message
    refuse_other_data(data(**changes), (f"conventions.{name}",))
    with pytest.raises(ValueError, match="override_contract"):
        refuse_other_data(data(**changes), (name,))  # half a name is none


def test_long_values_are_compared_to_their_end():
    """Their beginnings alone are shown."""
    unit = "metres that the hand moves in the direction of the world's x axis, "
    with pytest.raises(ValueError, match=r"conventions.action_units"):
        changed = data(action_units=(unit + "per step",))
        changed.processor.conventions = replace(MADE_FOR, action_units=(unit + "per second",))
        refuse_other_data(changed)
    spread = [0.123456789012] * 6
    assert find_differences({"a": [spread + [1.0], {"b": (1,)}]}, {"a": (spread + [2.0], {"b": [1]})}) != []
    assert find_differences({"a": [spread + [1.0], {"b": (1,)}]}, {"a": (spread + [1.0], {"b": [1]})}) == []


def test_what_is_not_used_or_not_known_does_not_matter():
    refuse_other_data(data())
    refuse_other_data(data(proprio_names=("joint",)))
    with pytest.raises(ValueError, match="conventions.proprio_names"):
        refuse_other_data(data(proprio=True, proprio_names=("joint",)))
    refuse_other_data(data(image_shape=None))
    refuse_other_data(data(wait_steps=None, horizons={}))
    with pytest.raises(ValueError, match="conventions.wait_steps 10 in the checkpoint, 0 in the dataset"):
        refuse_other_data(data(wait_steps=0))
    refuse_other_data(SimpleNamespace(processor=SimpleNamespace(), train=[]))


def test_only_what_is_named_may_differ(capsys):
    found = find_differences({"a": {"b": 1, "c": [1, 2]}, "d": 3}, {"a": {"b": 2, "c": (1, 2)}, "e": 3})
    assert [name for name, _, _ in found] == ["a.b", "d", "e"]
    with pytest.raises(ValueError, match=r"d 3 in the checkpoint, None in this run; e None"):
        refuse_differences(found, "this run", ["a.b"])
    refuse_differences(found, "this run", ["a.b", "d", "e", "x"])
    shown = capsys.readouterr().err
    assert "a.b: 1 in the checkpoint, 2 in this run; overridden" in shown and "x does not differ" in shown
    assert describe_differences([(f"f{i}", 0, 1) for i in range(9)], "x").endswith("and 3 more")


def test_simulator():
    contract = {
        "config": {"action_dim": 7, "cameras": ["agentview"], "num_frames": 1, "orientation": "raw", "proprio": False},
        "conventions": replace(MADE_FOR, control_hz=5.0).to_dict(),
    }  # fmt: skip
    assert check_contract(contract).status == "failed"
    assert "--override_contract control_hz" in check_contract(contract).detail
    assert check_contract(contract, ("action_dim",)).status == "failed"
    assert check_contract(contract, ("control_hz",)).status == "overridden"
    with pytest.raises(ValueError, match="force: can't be forced as a whole: name the fields"):
        ClosedLoopConfig(policy="expert", force=("contract",))


def test_the_evaluation_takes_the_fields_that_are_named():
    """And an error tells how to name them, not how to force all."""
    conventions = replace(MADE_FOR, control_hz=5.0)
    processor = Processor(ProcessorConfig(), 8, {"actions": ArrayStatistics.of(np.eye(8, 7))}, conventions)
    policy = object.__new__(Policy)
    policy.processor = processor
    config = ClosedLoopConfig(checkpoint=Path("unused"))
    with pytest.raises(ValueError, match=r"control_hz: 5.0 .*--override_contract control_hz lets them differ\)$"):
        make_protocol(config, policy)
    protocol = make_protocol(replace(config, override_contract=("control_hz",)), policy)
    assert (protocol.horizon, protocol.wait_steps) == (280, 10)


def test_the_checkpoint_says_how_long_episodes_are():
    """And the command line has the last word."""
    conventions = replace(MADE_FOR, wait_steps=0, horizons={"libero_object": 600})
    policy = object.__new__(Policy)
    policy.processor = Processor(ProcessorConfig(), 8, {"actions": ArrayStatistics.of(np.eye(8, 7))}, conventions)
    config = ClosedLoopConfig(checkpoint=Path("unused"))
    with pytest.raises(ValueError, match="--override_contract wait_steps,horizons lets them differ"):
        make_protocol(config, policy)
    config = replace(config, override_contract=("wait_steps", "horizons"))
    protocols = [make_protocol(replace(config, **given), policy) for given in ({}, {"horizon": 90, "wait_steps": 10})]
    assert [(protocol.horizon, protocol.wait_steps) for protocol in protocols] == [(600, 0), (90, 10)]
    assert make_protocol(replace(config, suite="libero-goal"), policy).horizon == 300  # it says nothing of these
