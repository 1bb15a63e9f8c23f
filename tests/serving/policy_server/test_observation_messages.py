"""Messages of every client become what the policy is asked; wrong ones are one line."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from served_policies import EchoPolicy, frame, tiny_policy

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.serving.policy_server.contract import Served
from vla.serving.policy_server.observations import read_observation

CONFIG = ServeConfig(policy="zero")
STATE = np.linspace(-1, 1, 8)


@pytest.fixture(scope="module")
def served() -> Served:
    """Two cameras and the robot's state, upright."""
    return Served.of(tiny_policy(), CONFIG)


def own(**changes: Any) -> dict[str, Any]:
    """A message of our client."""
    images = {"agentview": frame(1), "eye_in_hand": frame(2)}
    return {"images": images, "instruction": "pick", "proprio": STATE} | changes


@pytest.mark.parametrize(
    "message",
    [
        own(),
        {"image": frame(1), "wrist_image": frame(2), "instruction": "pick", "state": STATE, "unnorm_key": None},
        {"full_image": frame(1), "wrist_image": frame(2), "state": STATE, "instruction": "pick"},
        {
            "observation/image": frame(1).transpose(2, 0, 1), "observation/wrist_image": frame(2) / 255,
            "observation/state": STATE, "prompt": "pick",
        },
        {"agentview": frame(1).tolist(), "eye_in_hand": frame(2), "instruction": "pick", "proprio": STATE.tolist()},
    ],
    ids=["own", "openvla", "oft", "openpi", "lists"],
)  # fmt: skip
def test_every_client_is_understood(served: Served, message: dict[str, Any]) -> None:
    found = read_observation(message, served)
    assert found.frames.shape == (1, 2, 32, 32, 3) and found.frames.dtype == np.uint8
    assert [image[0, 0, 0] for image in found.frames[0]] == [1, 2]
    assert np.array_equal(found.proprio, STATE) and found.instruction == "pick" and found.session is None


@pytest.mark.parametrize("orientation", ["upright", "rotate_180", "raw"])
@pytest.mark.parametrize("images", ["seen", "stored"])
def test_pictures_are_seen_as_they_were_sent(orientation: str, images: str) -> None:
    """`seen`: the policy's own turning undoes ours; `stored`: as in the training files."""
    policy = tiny_policy(orientation=orientation)
    config = policy.processor.config
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[:5, :9] = 255
    message = own(images=dict.fromkeys(config.cameras, picture))
    frames = read_observation(message, Served.of(policy, replace(CONFIG, images=images))).frames[0]
    seen = policy.processor.images(torch.from_numpy(frames).permute(0, 3, 1, 2))[0].permute(1, 2, 0).numpy() * 255
    turned = {"raw": picture, "upright": picture[::-1], "rotate_180": picture[::-1, ::-1]}
    assert np.array_equal(seen.round(), picture if images == "seen" else turned[orientation])


def test_several_frames(served: Served) -> None:
    contract = served.contract | {"config": served.contract["config"] | {"num_frames": 3}}
    served = replace(served, contract=contract)
    sent = {name: np.stack([frame(10 * i + k) for k in range(3)]) for i, name in enumerate(served.cameras)}
    found = read_observation(own(images=sent), served)
    assert found.frames[:, :, 0, 0, 0].tolist() == [[0, 10], [1, 11], [2, 12]]
    with pytest.raises(UserError, match=r"images.agentview: must hold 1 or 3 frames, got 2"):
        read_observation(own(images={name: value[:2] for name, value in sent.items()}), served)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ([1], "message: must be an object, got list"),
        (own(images={"agentview": frame()}), r"images.eye_in_hand: must be given, as the policy sees agentview, eye"),
        (own(images={"agentview": frame(), "eye_in_hand": frame(size=40)}), "images.eye_in_hand: must be of the first"),
        (own(images={"agentview": frame(size=4), "eye_in_hand": frame()}), "images.agentview: must be height x width"),
        (own(images={"agentview": "jpeg", "eye_in_hand": frame()}), "images.agentview: must be an array of numbers"),
        (own(images={"agentview": [[1], [2, 3]], "eye_in_hand": frame()}), "images.agentview: must be an array"),
        (own(images={"agentview": frame() - 0.5, "eye_in_hand": frame()}), "of type float64 must be within"),
        (own(images={"agentview": frame() + np.nan, "eye_in_hand": frame()}), "of type float64 must be within"),
        (own(images={"agentview": frame() + np.int64(300), "eye_in_hand": frame()}), "must be uint8, got int64"),
        (own(proprio=STATE[:7]), "proprio: must be 8 finite numbers"),
        (own(proprio=STATE * np.nan), "proprio: must be 8 finite numbers"),
        (own(proprio=None), "proprio: must be an array of numbers, got None"),
        ({key: value for key, value in own().items() if key != "proprio"}, "proprio: must be given, the 8 numbers"),
        (own(instruction=" "), "instruction: must be a text of 1 to 2000 characters"),
        (own(instruction="x" * 2001), "instruction: must be a text"),
        (own(unnorm_key="bridge_orig"), "unnorm_key: must be libero-mini, libero_mini, whose statistics are served"),
        (own(step=-1), "step: must be a whole number >= 0, got -1"),
        (own(seed=True), "seed: must be a whole number"),
        (own(session=""), "session: must be a name"),
    ],
)
def test_what_is_wrong_is_one_line(served: Served, message: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_observation(message, served)
    assert "\n" not in str(error.value)


def test_a_policy_that_sees_nothing_needs_one_picture() -> None:
    found = read_observation(
        {"image": frame(), "instruction": "x", "unnorm_key": "any"}, Served.of(EchoPolicy(), CONFIG)
    )
    assert found.frames.shape == (1, 1, 32, 32, 3) and not found.proprio.any()


FIELDS = st.sampled_from(
    ["images", "image", "instruction", "proprio", "session", "reset", "step", "seed", "unnorm_key"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(frame()) | st.just(STATE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["agentview", "eye_in_hand"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(FIELDS, ANYTHING))
def test_anything_is_understood_or_one_line(served: Served, changes: dict[str, Any]) -> None:
    try:
        read_observation(own(**changes), served)
    except UserError as error:
        assert "\n" not in str(error)
