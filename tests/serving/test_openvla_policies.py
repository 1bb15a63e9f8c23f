"""OpenVLA and OFT as policies: of a run, of an exported folder, on what the loader and what the simulator gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_closed_loop import FakePool

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.convert import ExportConfig, ImportConfig
from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models import ModelConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.data.dataset_statistics import STATISTICS_FILE
from vla.errors import UserError
from vla.evaluation.simulator.audit import check_contract
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.evaluation.simulator.protocol import PUBLISHED_IMAGE_SIZE
from vla.serving.closed_loop import ClosedLoop
from vla.serving.export import export
from vla.serving.importing import import_published
from vla.serving.policy import Policy
from vla.serving.preparation import make_protocol, stored_image_size
from vla.serving.preprocessing_check import check_preprocessing
from vla.training import pretrain

MINI = LiberoMiniConfig(max_episodes_per_task=2)
MODELS = ("openvla-tiny", "openvla-oft-tiny")
pytestmark = pytest.mark.skipif(not list(MINI.root.glob("*.hdf5")), reason="libero-mini is not here")  # type: ignore[union-attr]


@pytest.fixture(scope="module", params=MODELS)
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step, on augmented images as published; a policy sees none."""
    model = ModelConfig.get_choice_class(request.param)()
    model = replace(model, processor=replace(model.processor, augmentation=True))
    budget = {"max_steps": 1, "global_batch_size": 2, "per_device_batch_size": 2}
    model = replace(model, full_finetune=replace(model.full_finetune, **budget))
    config = PretrainConfig(
        model=model, dataset=MINI, stage=Stage.FULL_FINETUNE, run_id="a-run", device="cpu", report=False,
        run_root_dir=tmp_path_factory.mktemp("runs"), trackers=("jsonl",), loader=LoaderConfig(num_workers=0),
        evaluation=EvaluationConfig(every_epochs=None, max_batches=1), checkpoint=CheckpointConfig(every_epochs=None),
    )  # fmt: skip
    assert pretrain.run(config) == 0
    return config.run_dir


@pytest.fixture(scope="module")
def policy(run_dir: Path) -> Policy:
    return Policy.load(run_dir)


def asked(policy: Policy, step: int = 0, init_id: int = 0, instruction: str = "Pick up the milk") -> PolicyInput:
    images = len(policy.processor.config.cameras)
    frames = np.random.default_rng(step + 10 * init_id).integers(0, 255, (images, 128, 128, 3), dtype=np.uint8)
    return PolicyInput(frames, np.linspace(-0.5, 0.5, 8), instruction, Episode("libero_object", 0, init_id), step)


def test_actions(policy: Policy) -> None:
    inputs = [asked(policy, init_id=i, instruction=text) for i, text in enumerate(["pick up the milk", "push it away"])]
    actions = policy.act(inputs)
    assert actions.shape == (2, policy.chunk_size, 7) and np.isfinite(actions).all()
    assert policy.chunk_size == (8 if "oft" in type(policy.config.model).model_id else 1)
    assert np.array_equal(actions, policy.act(inputs))
    together = Policy(policy.config, policy.processor, policy.model, max_batch=2).act(inputs)
    assert np.allclose(together, actions, atol=1e-4)


def test_the_simulator_means_the_same(policy: Policy) -> None:
    assert check_contract(policy.processor.contract()).status == "passed"
    assert stored_image_size(policy) == 128


def test_evaluation_prepares_as_training_does(policy: Policy) -> None:
    check = check_preprocessing(policy)
    assert check.status == "passed", check.detail


def test_the_protocol_is_the_published_one(policy: Policy) -> None:
    horizons = {"spatial": 220, "object": 280, "goal": 300, "10": 520, "90": 400}
    for suite, horizon in horizons.items():
        protocol = make_protocol(ClosedLoopConfig(checkpoint=policy.checkpoint, suite=f"libero-{suite}"), policy)
        assert (protocol.horizon, protocol.wait_steps, protocol.seed) == (horizon, 10, 0)
        assert (protocol.orientation, protocol.execute_steps) == ("rotate_180", policy.chunk_size)
        assert protocol.cameras == (("agentview", "eye_in_hand") if policy.chunk_size == 8 else ("agentview",))
    seen = policy.processor.config
    assert (seen.jpeg_quality, seen.resize, seen.center_crop) == (95, "lanczos3", 0.9)
    assert PUBLISHED_IMAGE_SIZE == 256 and protocol.image_size == 128  # as the pictures that it learned from


def test_an_exported_folder_acts_like_the_run(run_dir: Path, policy: Policy, tmp_path: Path) -> None:
    assert export(ExportConfig(checkpoint=run_dir, output=tmp_path / "out")) == 0
    statistics = json.loads((tmp_path / "out" / STATISTICS_FILE).read_text())
    assert list(statistics) == ["libero_mini"]
    exported = Policy.load(tmp_path / "out", unnorm_key="libero_mini")
    inputs = [asked(policy, step=3)]
    assert np.allclose(exported.act(inputs), policy.act(inputs), atol=1e-5)
    assert exported.fingerprint != policy.fingerprint and exported.chunk_size == policy.chunk_size
    assert import_published(ImportConfig(tmp_path / "out", tmp_path / "again", unnorm_key="libero_mini")) == 0
    assert np.array_equal(Policy.load(tmp_path / "again").act(inputs), exported.act(inputs))
    with pytest.raises(UserError, match="unnorm_key: must be one of libero_mini, got 'libero_object'"):
        Policy.load(tmp_path / "out", unnorm_key="libero_object")


def test_plays_episodes(policy: Policy, tmp_path: Path) -> None:
    """Through the whole evaluation, audit included, with a simulator that counts."""
    config = ClosedLoopConfig(
        checkpoint=policy.checkpoint, episodes=2, tasks=(1,), horizon=18, image_size=32, videos=0, wait_steps=1
    )
    with FakePool(tmp_path / "log") as pool:
        assert ClosedLoop(config, policy, tmp_path, pool).run() == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["overall"]["episodes"], results["overall"]["errors"]) == (2, 0)
    assert results["policy"]["chunk_size"] == policy.chunk_size
    audit = {check["name"]: check["status"] for check in results["audit"]}
    assert audit["preprocessing"] == audit["contract"] == "passed"


def test_groups_of_it_cannot_be_exported(run_dir: Path, tmp_path: Path) -> None:
    config: Any = ExportConfig(checkpoint=run_dir, output=tmp_path / "out", groups=("projector",))
    with pytest.raises(UserError, match="groups: OpenVLA's layout holds whole models"):
        export(config)
