"""The Processor: orientation, gripper, units, and a file that keeps all of it."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.conf.models.base import ProcessorConfig
from vla.data.conventions import LIBERO_CONVENTIONS, Conventions
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics


def make(conventions: Conventions = LIBERO_CONVENTIONS, chunk: int = 8, **config: Any) -> Processor:
    random = np.random.default_rng(0)
    actions = random.uniform(-0.8, 0.8, (300, 7)).astype(np.float32)
    actions[:, 6] = np.where(actions[:, 6] > 0, conventions.gripper_closed, conventions.gripper_open)
    statistics = {
        "actions": ArrayStatistics.of(actions),
        "proprio": ArrayStatistics.of(random.normal(size=(300, 8)).astype(np.float32)),
    }
    return Processor(ProcessorConfig(**{"image_size": 4, "proprio": True, **config}), chunk, statistics, conventions)


def corners(image: np.ndarray | torch.Tensor) -> list[int]:
    """Red at top left, top right, bottom left, bottom right."""
    return [int(image[0, y, x]) for y in (0, -1) for x in (0, -1)]


@pytest.fixture
def stored() -> torch.Tensor:
    """A bottom-up picture [3, 4, 4] of a scene whose corners, seen upright, are 10, 20 (top), 30, 40 (bottom)."""
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    image[:, 0, 0], image[:, 0, -1], image[:, -1, 0], image[:, -1, -1] = 30, 40, 10, 20
    return image


class TestImages:
    @pytest.mark.parametrize(
        ("orientation", "seen"),
        [("upright", [10, 20, 30, 40]), ("rotate_180", [20, 10, 40, 30]), ("raw", [30, 40, 10, 20])],
    )
    def test_orientation(self, stored: torch.Tensor, orientation: str, seen: list[int]) -> None:
        assert corners(make(orientation=orientation).images(stored) * 255) == seen

    def test_orientation_of_top_down_files(self, stored: torch.Tensor) -> None:
        """What a model sees doesn't depend on how files store it."""
        top_down = replace(LIBERO_CONVENTIONS, camera_orientation="top_down")
        for orientation in ("upright", "rotate_180"):
            expected = make(orientation=orientation).images(stored)
            assert torch.equal(make(top_down, orientation=orientation).images(stored.flip(-2)), expected)

    def test_orientation_of_copies_that_were_turned(self, stored: torch.Tensor) -> None:
        """LIBERO's pictures turned by 180 degrees, as copies for OpenVLA are: upright, but left is right."""
        turned = replace(LIBERO_CONVENTIONS, camera_orientation="top_down_mirrored")
        for orientation in ("upright", "rotate_180"):
            expected = make(orientation=orientation).images(stored)
            assert torch.equal(make(turned, orientation=orientation).images(stored.flip((-2, -1))), expected)
        assert corners(make(turned).upright(stored.flip((-2, -1)).numpy())) == [10, 20, 30, 40]

    def test_upright_for_people(self, stored: torch.Tensor) -> None:
        for orientation in ("upright", "rotate_180", "raw"):
            processor = make(orientation=orientation)
            assert corners(processor.upright(stored)) == [10, 20, 30, 40]
            assert corners(processor.upright(stored.numpy())) == [10, 20, 30, 40]
        top_down = make(replace(LIBERO_CONVENTIONS, camera_orientation="top_down"))
        assert top_down.upright(stored) is stored

    def test_shape_type_and_range(self) -> None:
        images = torch.randint(0, 256, (2, 4, 3, 16, 20), dtype=torch.uint8)
        seen = make(image_size=8, resize="lanczos").images(images)
        assert (seen.shape, seen.dtype) == ((2, 4, 3, 8, 8), torch.float32)
        assert seen.min() >= 0
        assert seen.max() <= 1
        assert torch.equal(seen, (seen * 255).round() / 255)


class TestActions:
    @pytest.mark.parametrize("normalization", ["none", "bounds", "bounds_q99", "mean_std"])
    def test_gripper_of_libero_passes_through(self, normalization: str) -> None:
        processor = make(normalization=normalization)
        actions = np.random.default_rng(1).uniform(-0.7, 0.7, (5, 8, 7)).astype(np.float32)
        normalized = processor.normalize_actions(actions)
        assert np.array_equal(normalized[..., 6], actions[..., 6])
        assert np.allclose(processor.denormalize_actions(normalized), actions, atol=1e-6)

    def test_gripper_of_other_files(self) -> None:
        """OpenVLA's data sets have 1 for open and 0 for closed; a model never sees that."""
        processor = make(replace(LIBERO_CONVENTIONS, gripper_open=1.0, gripper_closed=0.0))
        actions = torch.zeros(3, 7)
        actions[:, 6] = torch.tensor([1.0, 0.0, 0.5])
        normalized = processor.normalize_actions(actions)
        assert normalized[:, 6].tolist() == [-1.0, 1.0, 0.0]
        assert processor.denormalize_actions(normalized)[:, 6].tolist() == [1.0, 0.0, 0.5]
        assert processor.physical_actions(normalized)[:, 6].tolist() == [-1.0, 1.0, 0.0]

    def test_physical_units(self) -> None:
        processor = make(normalization="none")
        actions = np.full((2, 7), 0.5, dtype=np.float32)
        expected = [0.025, 0.025, 0.025, 0.25, 0.25, 0.25, 0.5]
        assert np.allclose(processor.physical_actions(actions), expected)
        assert np.allclose(processor.physical_actions(torch.from_numpy(actions)).numpy(), expected)
        assert (actions == 0.5).all()
        assert len(processor.action_names) == len(processor.action_units) == 7
        assert processor.action_units[:6] == ("m", "m", "m", "rad", "rad", "rad")

    def test_proprio_round_trip(self) -> None:
        processor = make(normalization="mean_std")
        state = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
        assert np.allclose(processor.denormalize_proprio(processor.normalize_proprio(state)), state, atol=1e-6)


class TestFile:
    def test_saved_and_loaded_is_equal(self, tmp_path: Path) -> None:
        processor = make(cameras=("agentview",), num_frames=3, orientation="rotate_180")
        processor.normalize_actions(np.zeros((1, 7)))
        assert processor.save(tmp_path) == tmp_path / "processor.json"
        loaded = Processor.load(tmp_path)
        assert loaded == processor
        assert loaded.statistics_hash == processor.statistics_hash
        assert loaded.contract() == processor.contract()

    def test_files_of_before_a_field_was_there_have_its_default(self, tmp_path: Path) -> None:
        path = make().save(tmp_path)
        values = json.loads(path.read_text())
        for name in ("augmentation", "center_crop", "jpeg_quality"):
            del values["config"][name]
        for name in ("wait_steps", "horizons"):
            del values["conventions"][name]
        path.write_text(json.dumps(values))
        assert Processor.load(tmp_path) == make()

    def test_contract_is_plain_and_says_the_conventions(self) -> None:
        contract = json.loads(json.dumps(make().contract()))
        assert contract["config"]["orientation"] == "upright"
        assert contract["conventions"]["camera_orientation"] == "bottom_up"
        assert (contract["conventions"]["gripper_open"], contract["conventions"]["gripper_closed"]) == (-1, 1)
        assert contract["model_gripper"] == "-1 open, +1 closed"
        assert (contract["conventions"]["wait_steps"], contract["conventions"]["horizons"]["libero_10"]) == (10, 520)

    def test_pickle(self) -> None:
        processor = make()
        assert pickle.loads(pickle.dumps(processor)) == processor

    def test_changed_statistics_are_noticed(self, tmp_path: Path) -> None:
        path = make().save(tmp_path)
        values = json.loads(path.read_text())
        values["statistics"]["actions"]["q99"][0] += 0.1
        path.write_text(json.dumps(values))
        with pytest.raises(ValueError, match=r"processor.json: the statistics were changed"):
            Processor.load(tmp_path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda values: values.update(format=99),
            lambda values: values["config"].update(image_size=-1),
            lambda values: values["config"].update(unknown=1),
            lambda values: values["conventions"].pop("gripper_open"),
            lambda values: values.pop("statistics"),
            lambda values: values["statistics"]["actions"]["q99"].pop(),
        ],
    )
    def test_damaged_file(self, tmp_path: Path, change: Any) -> None:
        path = make().save(tmp_path)
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
        with pytest.raises(ValueError, match=r"processor.json: not a processor file"):
            Processor.load(tmp_path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Processor.load(tmp_path)


def test_statistics_must_fit() -> None:
    processor = make()
    with pytest.raises(ValueError, match="no statistics of proprio"):
        replace(processor, statistics={"actions": processor.statistics["actions"]})
    with pytest.raises(ValueError, match=r"processor.action_dim: the data has 8 dimensions, got 7"):
        replace(processor, statistics={**processor.statistics, "actions": processor.statistics["proprio"]})
