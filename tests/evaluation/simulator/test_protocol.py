import copy
from dataclasses import replace

import pytest

from vla.conf.models.base import ProcessorConfig
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.evaluation.simulator.audit import check_contract
from vla.evaluation.simulator.protocol import Protocol, contract_differences, suite_name


def contract(conventions=LIBERO_CONVENTIONS, **config):
    from dataclasses import asdict

    values = asdict(ProcessorConfig(proprio=True, **config))
    return {"config": values, "conventions": conventions.to_dict(), "model_gripper": "-1 open, +1 closed"}


def test_libero_contract_fits_the_simulator():
    assert contract_differences(contract()) == []
    assert check_contract(contract()).status == "passed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera_orientation": "top_down"}, "camera_orientation: 'top_down' in the checkpoint, 'bottom_up'"),
        ({"rotation": "euler"}, "rotation: 'euler'"),
        ({"control_hz": 10.0}, "control_hz: 10.0"),
        ({"action_frame": "tool"}, "action_frame: 'tool'"),
        ({"action_scale": (1.0,) * 7}, "action_scale"),
        ({"proprio_names": ("joint 1",)}, "proprio_names"),
        ({"wait_steps": 0}, "wait_steps: 0 in the checkpoint, 10 in the simulator"),
        ({"horizons": {"libero_object": 600}}, "horizons: {'libero_object': 600} in the checkpoint"),
    ],
)
def test_each_difference_is_named(changes, words):
    (line,) = contract_differences(contract(replace(LIBERO_CONVENTIONS, **changes)))
    assert line.startswith(words)


def test_other_cameras_and_action_dimensions_are_named():
    lines = contract_differences(contract(cameras=("agentview", "front"), action_dim=14))
    assert lines[0] == "action_dim: 14 in the checkpoint, 7 in the simulator"
    assert lines[1].startswith("cameras: the checkpoint wants 'front'")
    check = check_contract(contract(action_dim=14))
    assert check.status == "failed" and "14 in the checkpoint" in check.detail


def test_gripper_polarity_of_the_files_is_no_difference():
    conventions = replace(LIBERO_CONVENTIONS, gripper_open=1.0, gripper_closed=0.0)  # as OpenVLA's files
    assert contract_differences(contract(conventions)) == []


def test_data_without_a_benchmark_says_nothing_of_its_episodes():
    assert contract_differences(contract(replace(LIBERO_CONVENTIONS, wait_steps=None, horizons={}))) == []


def test_robot_state_matters_only_to_those_who_see_it():
    values = contract(replace(LIBERO_CONVENTIONS, proprio_names=("joint 1",)))
    values["config"]["proprio"] = False
    assert contract_differences(values) == []


def test_hash_differs_with_every_field():
    base = Protocol("libero_object", 280)
    changes = {
        "suite": "libero_goal", "horizon": 10, "wait_steps": 5, "image_size": 128, "cameras": ("agentview",),
        "num_frames": 2, "frame_stride": 2, "execute_steps": 8, "ensemble": 0.1, "seed": 1, "orientation": "upright",
        "rotation": "euler", "gripper": "other",
    }  # fmt: skip
    hashes = {replace(base, **{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {base.hash}) == len(changes) + 1
    assert copy.deepcopy(base).hash == base.hash


def test_mistakes_are_one_line():
    with pytest.raises(ValueError, match="execute_steps: must be > 0, got 0"):
        Protocol("libero_object", 280, execute_steps=0)
    with pytest.raises(ValueError, match="wants 'front'"):
        Protocol("libero_object", 280, cameras=("front",))
    with pytest.raises(ValueError, match="suite: must be one of .*, got 'libero-objects'"):
        suite_name("libero-objects")
    assert suite_name("libero-object") == "libero_object"
