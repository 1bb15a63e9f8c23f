"""What a server says about its policy, and what it says to clients that mean something else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from served_policies import EchoPolicy, tiny_policy

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.serving.policy import ExpertPolicy
from vla.serving.policy_server.contract import ContractError, Served
from vla.serving.policy_server.service import PolicyService
from vla.serving.policy_server.wire import dump_json

CONFIG = ServeConfig(policy="zero")


def test_a_client_may_state_any_part_of_it() -> None:
    policy = tiny_policy()
    served = Served.of(policy, CONFIG)
    served.check({})
    served.check({"gripper": "signed", "images": "seen", "conventions": {"control_hz": 20}})
    served.check(json.loads(json.dumps(policy.processor.contract())))  # its whole processor.json
    served.check({"conventions": {"action_scale": np.array(policy.processor.conventions.action_scale)}})


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        ({"conventions": {"control_hz": 10.0}}, "conventions.control_hz is 20.0 here, 10.0 in the client"),
        ({"gripper": "unit"}, "gripper is 'signed' here, 'unit' in the client"),
        ({"config": {"cameras": ["agentview"]}}, r"config.cameras is \['agentview', 'eye_in_hand'\] here, \['agentv"),
        ({"colour": "bgr"}, "colour is not known here"),
        ({"config": 3}, "config is {'cameras'.*3 in the client"),
        ({str(i): i for i in range(9)}, "4 is not known here; and 4 more"),
        (["control_hz"], "contract: must be an object, got list"),
    ],
)
def test_what_differs_is_one_line(stated: object, line: str) -> None:
    with pytest.raises(ContractError, match=line) as error:
        Served.of(tiny_policy(), CONFIG).check(stated)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_metadata_can_be_sent_and_names_what_matters() -> None:
    told = json.loads(dump_json(Served.of(tiny_policy(), CONFIG).metadata()))
    assert (told["chunk_size"], told["cameras"], told["proprio_dim"]) == (8, ["agentview", "eye_in_hand"], 8)
    assert told["gripper_means"] == "-1 opens, +1 closes" and told["contract"]["statistics_hash"]
    assert Served.of(EchoPolicy(), CONFIG).metadata()["cameras"] == ["agentview"]


def test_grippers() -> None:
    actions = np.array([[0.5, -1.0], [0.5, 1.0]])
    served = Served.of(tiny_policy(), CONFIG)
    assert served.actions(actions) is actions
    unit = replace(served, gripper="unit").actions(actions)
    assert unit.tolist() == [[0.5, 1.0], [0.5, 0.0]] and actions[0, 1] == -1.0


def test_what_can_not_be_served() -> None:
    with pytest.raises(UserError, match="execute_steps: must be at most the policy's chunk of 8, got 9"):
        PolicyService(EchoPolicy(), replace(CONFIG, execute_steps=9))
    with pytest.raises(UserError, match="can't be served"):
        PolicyService(ExpertPolicy(), CONFIG)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"policy": "checkpoint"}, "checkpoint: must name a run or checkpoint folder, or --policy zero or random"),
        ({"port": 70000}, "port: must be within"),
        ({"gripper": "open"}, "gripper: must be one of signed, unit"),
        ({"max_queue": 0}, "max_queue: must be > 0"),
    ],
)
def test_values_that_can_not_be(values: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ServeConfig(**({"policy": "zero"} | values))
