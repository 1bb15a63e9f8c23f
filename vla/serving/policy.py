"""Policies: from what the robot senses to the actions that the simulator takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vla.batches import ActionBatch, check_instruction
from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.data.processor import Processor
from vla.evaluation.simulator.demonstrations import Demonstration
from vla.evaluation.simulator.messages import PolicyInput
from vla.models.base import BaseModel
from vla.models.weights.openvla import is_openvla_folder
from vla.serving.published import load_published
from vla.training.checkpoint_files import read_manifest
from vla.training.checkpoint_store import find_checkpoint
from vla.training.inference import load_for_inference
from vla.training.materialize import get_task

ACTION_DIM = 7
BASELINE_CHUNK = 8
LANGUAGE = "llm_backbone"
KEPT_INSTRUCTIONS = 1024  # whose language features are remembered


class ActingPolicy(Protocol):
    """What an evaluation needs of a policy.

    Attributes:
        name: for people.
        fingerprint: differs between any two policies that may act differently.
        chunk_size: actions that it gives at once.
        actor: remote (`act` is called) | expert (it lives in the simulator's process).
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def chunk_size(self) -> int: ...

    @property
    def actor(self) -> str: ...

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """Actions float [B, chunk, 7] for the present and the coming steps, in the simulator's units.

        Motion in [-1, 1] = 5 cm and 0.5 rad; the gripper's sign opens (-1) or closes (+1).
        """
        ...


class Policy:
    """A trained model as a policy.

    Args:
        config: of its training run.
        processor: of its checkpoint.
        model: on `device`.
        fingerprint: see `ActingPolicy`.
        name: see `ActingPolicy`.
        device: where it computes.
        max_batch: observations predicted together. Predictions in batches differ from single ones by rounding, and a
            robot amplifies rounding: only with 1 does an episode not depend on which others ran at the same time.

    Example:
        >>> policy = Policy.load(Path("runs/quickstart"))
        >>> policy.act([PolicyInput(images, proprio, "pick up the milk", Episode("libero_object", 0, 0), 0)]).shape
        (1, 8, 7)
    """

    actor = "remote"

    def __init__(
        self, config: PretrainConfig, processor: Processor, model: BaseModel, *, fingerprint: str = "",
        name: str = "policy", device: str = "cpu", max_batch: int | None = None, checkpoint: Path | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.config, self.processor, self.model = config, processor, model.eval()
        self.name, self.fingerprint, self.device = name, fingerprint, device
        self.checkpoint, self.manifest = checkpoint, dict(manifest or {})
        self.max_batch = max_batch or (1 if device == "cpu" else 16)
        self.task = get_task(config.model, processor)
        self._language: dict[str, dict[str, Tensor]] = {}

    @classmethod
    def load(
        cls, path: Path, device: str = "cpu", max_batch: int | None = None, unnorm_key: str | None = None
    ) -> Policy:
        """The policy of a checkpoint folder, of a run folder's best checkpoint, or of a folder in OpenVLA's layout.

        Args:
            path: see above.
            device: see `Policy`.
            max_batch: see `Policy`.
            unnorm_key: of a folder in OpenVLA's layout, the dataset whose statistics its actions are in.

        Raises:
            UserError: there is no complete checkpoint, or a published backbone that it leaves out can't be found.
        """
        if is_openvla_folder(path):
            config, processor, model, fingerprint = load_published(path, unnorm_key)
            return cls(
                config, processor, model.to(device), fingerprint=fingerprint, device=device, max_batch=max_batch,
                name=path.name, checkpoint=path,
            )  # fmt: skip
        folder = find_checkpoint(path, prefer="best")
        config, processor, model = load_for_inference(folder, device)
        run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
        return cls(
            config, processor, model, fingerprint=checkpoint_fingerprint(folder, config), device=device,
            max_batch=max_batch, name=f"{run.name} {folder.name}", checkpoint=folder, manifest=read_manifest(folder),
        )  # fmt: skip

    @property
    def chunk_size(self) -> int:
        """See `ActingPolicy`."""
        return self.processor.chunk_size

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """See `ActingPolicy`."""
        parts = [inputs[i : i + self.max_batch] for i in range(0, len(inputs), self.max_batch)]
        return np.concatenate([self.to_environment(self.predict(self.batch(part))) for part in parts])

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Actions [..., 7] in model space to the simulator's: motion as stored, the gripper as it is.

        Model space and simulator agree that -1 opens and +1 closes, whatever the training files held.
        """
        actions = actions.float().cpu()
        environment = self.processor.denormalize_actions(actions)
        environment[..., -1] = actions[..., -1]
        return environment.numpy()

    @torch.no_grad()
    def predict(self, batch: ActionBatch) -> Tensor:
        """Actions [B, chunk, 7] in model space for a batch as the training's collator gives it."""
        model: Any = self.model  # `predict` is one of the action models' own
        return model.predict(self.task.prepare(batch, self.device))

    def batch(self, inputs: list[PolicyInput]) -> ActionBatch:
        """Observations as the training's collator gives them, with actions of zero."""
        size, shape = len(inputs), (len(inputs), self.chunk_size, self.processor.config.action_dim)
        # Channels last in memory, as the training's batches are.
        images = torch.from_numpy(np.stack([item.images for item in inputs])).permute(0, 1, 4, 2, 3)
        proprio = None
        if self.processor.config.proprio:
            stored = np.stack([item.proprio for item in inputs]).astype(np.float32)
            proprio = torch.from_numpy(self.processor.normalize_proprio(stored))
        instructions = [check_instruction(item.instruction) for item in inputs]
        batch = ActionBatch(
            sample_ids=torch.arange(size), images=images, instructions=instructions,
            actions=torch.zeros(shape), action_mask=torch.ones(shape[:2], dtype=torch.bool), proprio=proprio,
            rng_seeds=torch.tensor([rng_seed(item) for item in inputs], dtype=torch.int64),
        )  # fmt: skip
        batch.features = self._language_features(batch)
        return batch

    def _language_features(self, batch: ActionBatch) -> dict[str, Tensor]:
        """What the language model makes of the instructions: kept for the newest ones, since it never changes here."""
        source = self.model.feature_sources().get(LANGUAGE)
        if source is None:
            return {}
        for row, text in enumerate(batch.instructions):
            if text not in self._language:
                alone = ActionBatch(
                    batch.sample_ids[row : row + 1], batch.images[row : row + 1].to(self.device), [text],
                    batch.actions[row : row + 1], batch.action_mask[row : row + 1],
                )  # fmt: skip
                self._language[text] = {name: value[0].cpu() for name, value in source.compute(alone).items()}
        found = [self._language[text] for text in batch.instructions]
        for text in list(self._language)[:-KEPT_INSTRUCTIONS]:  # clients of a server may say anything
            del self._language[text]
        return {name: torch.stack([features[name] for features in found]) for name in found[0]}


def rng_seed(asked: PolicyInput) -> int:
    """Seed of what a policy draws at this step: a function of the episode and the step alone."""
    text = f"{asked.episode.key}/step-{asked.step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def checkpoint_fingerprint(folder: Path, config: PretrainConfig) -> str:
    """Hash of the weights, the Processor and the model's configuration (which names published weights)."""
    digest = hashlib.sha256(cli.dump(config.model).encode())
    for path in [folder / "processor.json", *sorted((folder / "model").glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ZeroPolicy:
    """Never moves, gripper open: what succeeds by itself."""

    name: str = "zero"
    fingerprint: str = "zero"
    chunk_size: int = BASELINE_CHUNK
    actor: str = "remote"

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """See `ActingPolicy`."""
        actions = np.zeros((len(inputs), self.chunk_size, ACTION_DIM))
        actions[..., -1] = -1.0
        return actions


@dataclass(frozen=True)
class RandomPolicy:
    """Uniform actions, the same for the same episode and step."""

    name: str = "random"
    fingerprint: str = "random"
    chunk_size: int = BASELINE_CHUNK
    actor: str = "remote"

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """See `ActingPolicy`."""
        shape = (self.chunk_size, ACTION_DIM)
        return np.stack([np.random.default_rng(rng_seed(item)).uniform(-1.0, 1.0, shape) for item in inputs])


@dataclass(frozen=True)
class ExpertPolicy:
    """The scripted expert, which sees the simulator's state; it lives in the simulator's process.

    Before an episode it may rehearse it with several grasps; the first that succeeds is then played and judged.
    """

    name: str = "expert (privileged, rehearses)"
    fingerprint: str = "expert"
    chunk_size: int = 1
    actor: str = "expert"

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """Never called.

        Raises:
            TypeError: always.
        """
        raise TypeError("the expert acts on the simulator's state, not on observations")


class ReplayPolicy:
    """Plays recorded demonstrations: episode i of a task is the task's demonstration i.

    Args:
        demonstrations: by task index.
    """

    name, actor, chunk_size = "replay", "remote", BASELINE_CHUNK

    def __init__(self, demonstrations: Mapping[int, list[Demonstration]]) -> None:
        self.demonstrations = dict(demonstrations)
        digest = hashlib.sha256()
        for task, demos in sorted(self.demonstrations.items()):
            for demo in demos:
                digest.update(f"{task} {demo.label}".encode() + demo.actions.tobytes() + demo.states.tobytes())
        self.fingerprint = f"replay-{digest.hexdigest()[:12]}"

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        """See `ActingPolicy`; past a demonstration's end the arm rests and the gripper stays as it is."""
        chunks = np.zeros((len(inputs), self.chunk_size, ACTION_DIM))
        for chunk, asked in zip(chunks, inputs, strict=True):
            actions = self.demonstrations[asked.episode.task][asked.episode.init_id].actions
            rest = actions[asked.step : asked.step + self.chunk_size]
            chunk[: len(rest)] = rest
            chunk[len(rest) :, -1] = actions[-1, -1]
        return chunks
