"""The same demonstrations in every layout are the same batches, statistics and labels."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from robot_files import (
    CAMERAS,
    Demonstration,
    shipped,
    write_lerobot_v21,
    write_lerobot_v30,
    write_libero,
    write_rlds,
)

from vla.conf.datasets import LeRobotConfig, LiberoConfig, RLDSConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.robot_datasets import ConventionsConfig, RobotDataConfig
from vla.data.datasets.base import Datasets
from vla.data.datasets.presets import with_preset
from vla.data.materialize import get_datasets
from vla.models.materialize import get_model

Write = Callable[[Path, list[Demonstration]], Path]
LAYOUTS: dict[str, tuple[type[RobotDataConfig], Write, float]] = {  # and how far a channel may be off, on average
    "v2.1-embedded": (LeRobotConfig, lambda p, d: write_lerobot_v21(p, d, "embedded"), 0.0),
    "v2.1-beside": (LeRobotConfig, lambda p, d: write_lerobot_v21(p, d, "beside"), 0.0),
    "v2.1-video": (LeRobotConfig, lambda p, d: write_lerobot_v21(p, d, "video"), 3.0),
    "v3.0-embedded": (LeRobotConfig, lambda p, d: write_lerobot_v30(p, d, "embedded"), 0.0),
    "v3.0-video": (LeRobotConfig, lambda p, d: write_lerobot_v30(p, d, "video"), 3.0),
    "rlds-png": (RLDSConfig, write_rlds, 0.0),
    "rlds-jpeg": (RLDSConfig, lambda p, d: write_rlds(p, d, "JPEG"), 4.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def demonstrations() -> list[Demonstration]:
    return shipped()


def open_data(config: LiberoConfig | RobotDataConfig) -> Datasets:
    """The data as a model with a history of two frames and chunks of four actions sees it."""
    window = ProcessorConfig(image_size=28, proprio=True, num_frames=2, frame_stride=3)
    return get_datasets(config, VGGTTinyConfig(processor=window, action_head=ChunkHeadConfig(chunk_size=4)))


@pytest.fixture(scope="module")
def libero(demonstrations, tmp_path_factory) -> Datasets:
    return open_data(LiberoConfig(root=write_libero(tmp_path_factory.mktemp("libero") / "data", demonstrations)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_batches(layout: str, demonstrations, libero: Datasets, tmp_path: Path) -> None:
    config, write, tolerance = LAYOUTS[layout]
    data = open_data(config(root=write(tmp_path / "data", demonstrations), preset="libero"))
    for ours, theirs in ((data.train, libero.train), (data.validation, libero.validation)):
        assert len(ours) == len(theirs) and [e.instruction for e in ours.episodes] == [
            e.instruction for e in theirs.episodes
        ]
        ours = pickle.loads(pickle.dumps(ours))  # as workers get it
        chosen = np.random.default_rng(0).permutation(len(ours))[:24].tolist()
        batch, expected = (side.collator([d[i] for i in chosen]) for side, d in ((data, ours), (libero, theirs)))
        assert batch.images.shape == expected.images.shape
        off = (batch.images.float() - expected.images.float()).abs().mean(dim=(2, 3, 4))
        assert off.max() <= tolerance
        for name in ("actions", "action_mask", "proprio"):
            assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        assert batch.instructions == expected.instructions
    assert data.processor.statistics_hash == libero.processor.statistics_hash
    assert data.processor.contract() == libero.processor.contract()
    assert "t=1" in data.train.sample_label(1) and "episode_0" in data.train.sample_label(1)
    assert {data.train.locate(i)[0] for i in range(len(data.train))}.isdisjoint(
        {data.validation.locate(i)[0] for i in range(len(data.validation))}
    )


def test_conventions_are_stated_or_refused(demonstrations, tmp_path: Path) -> None:
    root = write_lerobot_v21(tmp_path / "data", demonstrations[:3])
    with pytest.raises(ValueError) as raised:
        open_data(LeRobotConfig(root=root))
    message = str(raised.value)
    for name in ("action_units", "action_frame", "rotation", "gripper_open", "gripper_closed", "camera_orientation"):
        assert f"conventions.{name}" in message
    assert "nothing is assumed" in message and "--dataset.preset (libero" in message and "\n" not in message
    with pytest.raises(ValueError, match="fps: the files say 20, got 10"):
        open_data(LeRobotConfig(root=root, preset="libero", fps=10))
    turned = open_data(LeRobotConfig(root=root, preset="libero-rotated"))
    assert turned.processor.conventions.camera_orientation == "top_down_mirrored"


def test_rlds_needs_its_steps_per_second(demonstrations, tmp_path: Path) -> None:
    stated = open_data(RLDSConfig(root=write_rlds(tmp_path / "a", demonstrations[:3]), preset="libero"))
    meaning = stated.processor.conventions
    own = ConventionsConfig(
        action_units=meaning.action_units, action_frame="base", rotation="axis-angle", gripper_open=-1,
        gripper_closed=1, camera_orientation="top_down",
    )  # fmt: skip
    with pytest.raises(ValueError, match="nothing is assumed: fps;"):
        open_data(RLDSConfig(root=tmp_path / "a", conventions=own))
    data = open_data(RLDSConfig(root=tmp_path / "a", conventions=own, fps=7.5))
    assert data.processor.conventions.control_hz == 7.5
    assert data.processor.action_names == tuple(f"action {number}" for number in range(7))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cameras": ("image",)}, "dataset.cameras: must name a key for each of model.processor.cameras"),
        ({"cameras": ("image", "front")}, "dataset.cameras: no 'front'; there are observation.images.image"),
        ({"action_keys": ("motion",)}, "dataset.action_keys: no 'motion'; there are observation.state, action"),
        ({"state_keys": ("stat",)}, "dataset.state_keys: no 'stat'"),
        ({"instruction_key": "words"}, "dataset.instruction_key: no 'words'; there are task_index"),
    ],
)
def test_unknown_keys_are_named(fields, words: str, demonstrations, tmp_path: Path) -> None:
    root = write_lerobot_v21(tmp_path / "data", demonstrations[:3])
    with pytest.raises(ValueError) as raised:
        open_data(LeRobotConfig(root=root, preset="libero", **fields))
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_cameras_may_be_chosen_in_another_order(demonstrations, tmp_path: Path) -> None:
    root = write_lerobot_v21(tmp_path / "data", demonstrations[:3])
    straight, crossed = (
        open_data(LeRobotConfig(root=root, preset="libero", cameras=cameras))
        for cameras in (("image", "observation.images.wrist_image"), ("wrist_image", "image"))
    )
    a, b = straight.train[5]["images"], crossed.train[5]["images"]
    assert len(CAMERAS) == 2 and np.array_equal(a[::2], b[1::2]) and np.array_equal(a[1::2], b[::2])


def test_an_episode_with_two_instructions_is_two(demonstrations, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    root = write_lerobot_v21(tmp_path / "data", demonstrations)
    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    tasks = np.array([0] * 5 + [1] * (len(table) - 5))
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", [tasks]), path)
    data = open_data(LeRobotConfig(root=root, preset="libero", validation_episodes=0)).train
    assert [(e.demo, e.length) for e in data.episodes[:2]] == [
        ("episode_000000[0:5]", 5), (f"episode_000000[5:{len(table)}]", len(table) - 5),
    ]  # fmt: skip
    assert data.episodes[0].instruction != data.episodes[1].instruction
    assert data[4]["action_mask"].tolist() == [True, False, False, False]
    assert np.array_equal(data[5]["images"][0], data[5]["images"][2])  # no history from before the new instruction
    assert np.array_equal(data[6]["images"][2].transpose(1, 2, 0), demonstrations[0].frames["agentview"][6])


def test_relative_and_undecided_gripper_commands(demonstrations, tmp_path: Path) -> None:
    item = demonstrations[0]
    commands = np.zeros(len(item.actions), np.float32)
    commands[3], commands[7] = 1.0, -1.0  # closes, opens
    actions = np.concatenate([item.actions[:, :6], commands[:, None]], axis=1)
    root = write_rlds(tmp_path / "data", [replace(item, actions=actions)], shards=1)
    stated, _ = with_preset(RLDSConfig(preset="fractal"))
    config = RLDSConfig(root=root, conventions=stated.conventions, fps=3, validation_episodes=0)
    data = open_data(config)
    stored = data.train.episode_actions(0)[:, -1].tolist()
    assert stored == [1.0] * 3 + [0.0] * 4 + [1.0] * (len(actions) - 7)
    assert data.train[0]["actions"][:, -1].tolist() == [-1.0, -1.0, -1.0, 1.0]  # what a model sees: +1 closed
    skipped = open_data(replace(config, skip_first_steps=2))
    assert len(skipped.train) == len(actions) - 2


def test_states_of_another_width_are_taken_by_a_model_that_says_so(demonstrations, tmp_path: Path) -> None:
    items = [replace(item, states=item.states[:, :6]) for item in demonstrations[:3]]
    root = write_rlds(tmp_path / "data", items)
    features = root / "1.0.0" / "features.json"
    content = json.loads(features.read_text())
    steps = content["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    steps["observation"]["featuresDict"]["features"]["state"]["tensor"]["shape"]["dimensions"] = ["6"]
    features.write_text(json.dumps(content))
    stated, _ = with_preset(RLDSConfig(preset="libero"))
    conventions = replace(stated.conventions, proprio_names=(), proprio_units=())
    config = RLDSConfig(root=root, conventions=conventions, fps=20)
    with pytest.raises(
        ValueError, match=r"proprio_dim: the states of steps/observation/state have 6 dimensions, got 8"
    ):
        open_data(config)
    window = ProcessorConfig(image_size=28, proprio=True, proprio_dim=6)
    model = VGGTTinyConfig(processor=window, pretrained=False)
    data = get_datasets(config, model)
    batch = data.collator([data.train[0], data.train[1]])
    batch = replace(batch, images=data.processor.images(batch.images))
    assert batch.proprio.shape == (2, 6)
    get_model(model)(batch)
