"""What a client means otherwise than the policy is refused, unless the server was told which fields may differ."""

from typing import Any

import pytest

from vla.conf.serving import ServeConfig
from vla.serving.policy_server.contract import ContractError, Served

CONTRACT = {"config": {"action_dim": 7, "cameras": ["agentview"]}, "conventions": {"control_hz": 20.0}}
STATED: dict[str, Any] = {"config": {"action_dim": 8}, "conventions": {"control_hz": 10.0}, "gripper": "unit"}


def served(*override: str) -> Served:
    return Served(
        "policy", "0", CONTRACT, may_differ=ServeConfig(policy="zero", override_contract=override).override_contract
    )


def test_all_differences_are_told() -> None:
    with pytest.raises(ContractError) as caught:
        served().check(STATED)
    assert str(caught.value) == (
        "contract: config.action_dim is 7 here, 8 in the client; conventions.control_hz is 20.0 here, 10.0 in the "
        "client; gripper is 'signed' here, 'unit' in the client"
    )


def test_only_what_is_named_may_differ() -> None:
    with pytest.raises(ContractError, match="^contract: gripper is 'signed' here, 'unit' in the client$"):
        served("config.action_dim", "conventions.control_hz").check(STATED)
    with pytest.raises(ContractError, match="config.action_dim"):
        served("config", "action_dim", "conventions.control_hz", "gripper").check(STATED)  # half a name is none
    served("config.action_dim", "conventions.control_hz", "gripper").check(STATED)
