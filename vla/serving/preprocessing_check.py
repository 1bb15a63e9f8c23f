"""Do training and evaluation show the model the same thing? Training frames go through both, the actions must agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch

from vla.batches import ActionBatch
from vla.conf.datasets import LiberoConfig
from vla.data.datasets.episodes import Episode as StoredEpisode
from vla.data.datasets.hdf5_index import scan
from vla.data.datasets.libero import LiberoDataset
from vla.data.datasets.libero_format import CAMERA_SUFFIX
from vla.data.materialize import get_datasets
from vla.evaluation.simulator.audit import PREPROCESSING
from vla.evaluation.simulator.chunks import FrameHistory
from vla.evaluation.simulator.golden import Check
from vla.evaluation.simulator.libero_env import Observation
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.evaluation.simulator.protocol import CAMERA_NAMES
from vla.serving.policy import Policy, rng_seed

# In the simulator's units, of which 1 is 5 cm. Batches of one on both sides, so only float rounding is left.
TOLERANCE = 1e-4
NUM_SAMPLES = 4


def check_preprocessing(policy: Policy, root: Path | None = None) -> Check:
    """Compare the actions that training's loader leads to with those that the evaluation's observations lead to.

    The evaluation's side starts from what the simulator gives: frames, position, quaternion and finger positions as
    they stand in the file.

    Args:
        policy: with the training run's configuration.
        root: the data, if it isn't where it was in training any more.
    """
    config = training_data(policy, root)
    if config is None:
        return Check(PREPROCESSING, "skipped", "the training data is not here")
    config = replace(config, max_episodes_per_task=1, validation_episodes=0, frame_cache_mb=64)
    processor = policy.processor
    episodes = scan(config, processor.config.cameras, processor.config.proprio).episodes
    datasets = get_datasets(config, policy.config.model, processor)
    assert isinstance(datasets.train, LiberoDataset)
    refs = datasets.train.episodes
    worst, where = 0.0, ""
    for number in np.linspace(0, len(refs) - 1, NUM_SAMPLES).round().astype(int):
        ref = refs[number]
        for step in {0, ref.length // 2}:
            asked = observed(config.root / ref.file, episodes[number], step, policy)
            batch = datasets.collator([datasets.train[ref.first_sample + step]])
            assert isinstance(batch, ActionBatch)
            predicted = policy.predict(replace(batch, rng_seeds=torch.tensor([rng_seed(asked)])))
            difference = float(np.abs(policy.act([asked])[0] - policy.to_environment(predicted)[0]).max())
            if not difference <= worst:  # NaN counts as a difference
                worst, where = difference, f" ({ref.file} {ref.demo} step {step})"
    status = "passed" if worst <= TOLERANCE else "failed"
    detail = f"largest difference of an action {worst:.2g}{where} (at most {TOLERANCE:g}) between loader and evaluation"
    return Check(PREPROCESSING, status, detail)


def training_data(policy: Policy, root: Path | None = None) -> LiberoConfig | None:
    """The training run's data set, if it is one of LIBERO's layout and is here."""
    config = policy.config.dataset
    if not isinstance(config, LiberoConfig):
        return None
    config = config if root is None else replace(config, root=root)
    return config if config.root is not None and any(config.root.rglob("*.hdf5")) else None


def observed(path: Path, episode: StoredEpisode, step: int, policy: Policy) -> PolicyInput:
    """What the simulator would have given at sample `step` of a recorded episode."""
    config = policy.processor.config
    history = FrameHistory(config.num_frames, config.frame_stride)
    with h5py.File(path) as file:
        demo = file["data"][episode.demo]
        for time in sorted({max(step - i * config.frame_stride, 0) for i in range(config.num_frames)}):
            observation = _observation(demo, int(episode.rows[time]), config.cameras)
            history.add(time, np.stack([observation.images[CAMERA_NAMES[name]] for name in config.cameras]))
    name = Episode(f"{path.name}/{episode.demo}", 0, 0)
    return PolicyInput(history.window(step), observation.proprio, episode.instruction, name, step)


def _observation(demo: h5py.Group, row: int, cameras: tuple[str, ...]) -> Observation:
    images = {CAMERA_NAMES[name]: demo[f"obs/{name}{CAMERA_SUFFIX}"][row] for name in cameras}
    gripper, position, quat = np.split(demo["robot_states"][row], [2, 5])  # finger positions, m, xyzw
    return Observation(position, quat, gripper, np.zeros(7), images)
