"""The Processor: from stored images, actions and robot states to what a model sees, and back; saved with it."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vla.conf.models.base import ProcessorConfig
from vla.data.augmentation import augment
from vla.data.conventions import LIBERO_CONVENTIONS, Conventions, flips
from vla.data.jpeg import jpeg_round_trip
from vla.data.normalization import Normalizer, Values
from vla.data.published_images import center_crop, lanczos3_resize
from vla.data.resize import resize
from vla.data.statistics import Statistics, statistics_from_dict, statistics_hash, statistics_to_dict
from vla.errors import UserError

PROCESSOR_FILE = "processor.json"
FORMAT = 1


@dataclass(frozen=True)
class Processor:
    """One value that training, evaluation and serving share: image transform, normalisation and their conventions.

    Actions have three forms. *Stored*: as in the dataset and as the robot's controller takes them. *Model space*:
    normalised, gripper -1 open and +1 closed. *Physical*: metres and radians, for people.

    Args:
        config: what the model sees.
        chunk_size: actions that the model predicts at once.
        statistics: of the training data; "actions", and "proprio" if `config.proprio`.
        conventions: what the stored numbers mean.

    Raises:
        ValueError: statistics are missing, or of another number of dimensions.
    """

    config: ProcessorConfig
    chunk_size: int
    statistics: Statistics = field(hash=False)
    conventions: Conventions = LIBERO_CONVENTIONS

    def __post_init__(self) -> None:
        for name in ("actions", "proprio") if self.config.proprio else ("actions",):
            if name not in self.statistics:
                raise UserError(f"model.processor.{name}: the data has no statistics of {name}")
        if len(self.statistics["actions"]) != self.config.action_dim:
            raise UserError(
                f"model.processor.action_dim: the data has {len(self.statistics['actions'])} dimensions, "
                f"got {self.config.action_dim}"
            )

    # --- images ---

    def images(self, images: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Images as the model takes them, on their own device: turned as `config.orientation` says, with the losses of
        JPEG if `config.jpeg_quality` says so, resized, and cropped by `config.center_crop`, in this order.

        Args:
            images: uint8 [..., 3, H, W], as stored; [B, S, 3, H, W] with seeds.
            seeds: int64 [B], of training samples that are to be cropped and recoloured at random instead
                (`vla.data.augmentation`).

        Returns:
            float32 [..., 3, h, w] in [0, 1], h = w = `config.image_size`; multiples of 1/255.
        """
        config = self.config
        flips = self._flips(config.orientation)
        size = (config.image_size, config.image_size)
        if config.jpeg_quality is not None or config.resize == "lanczos3":
            images = images.flip([axis for axis, flip in zip((-2, -1), flips, strict=True) if flip])
            flips = (False, False)
        if config.jpeg_quality is not None:
            images = jpeg_round_trip(images, config.jpeg_quality)
        if config.resize == "lanczos3":
            seen = lanczos3_resize(images, size)
        else:
            seen = resize(images, size, config.resize, *flips)
        if seeds is not None:
            seen = augment(seen, seeds, config.center_crop, len(config.cameras))
        elif config.center_crop is not None:
            seen = center_crop(seen, config.center_crop)
        return seen.div_(255)

    def upright(self, images: Values) -> Values:
        """Images [..., H, W] (array or tensor, as stored) the way people see the scene; text in it is readable."""
        axes = tuple(axis for axis, turned in zip((-2, -1), self._flips("upright"), strict=True) if turned)
        if not axes:
            return images
        return images.flip(axes) if isinstance(images, Tensor) else np.flip(images, axes)

    def _flips(self, orientation: str) -> tuple[bool, bool]:
        """Whether rows and columns of stored images are reversed."""
        return flips(self.conventions.camera_orientation, orientation)

    # --- actions and robot state ---

    @cached_property
    def _actions(self) -> Normalizer:
        keep = (self.config.action_dim - 1,)  # the gripper
        return Normalizer(self.config.normalization, self.statistics["actions"], keep, self.config.normalization_rule)

    @cached_property
    def _proprio(self) -> Normalizer:
        return Normalizer(self.config.normalization, self.statistics["proprio"], rule=self.config.normalization_rule)

    @property
    def _stored_gripper(self) -> tuple[float, float]:
        """Middle of the stored gripper range, and the way from there to closed."""
        is_open, closed = self.conventions.gripper_open, self.conventions.gripper_closed
        return (is_open + closed) / 2, (closed - is_open) / 2

    def normalize_actions(self, actions: Values) -> Values:
        """Stored actions [..., A] (array or tensor) to model space, float32."""
        normalized = self._actions.normalize(actions)
        middle, half = self._stored_gripper
        if (middle, half) != (0.0, 1.0):
            normalized[..., -1] = (normalized[..., -1] - middle) / half
        return normalized

    def denormalize_actions(self, actions: Values) -> Values:
        """Actions [..., A] in model space to stored ones, which the robot's controller takes; float32."""
        stored = self._actions.denormalize(actions)
        middle, half = self._stored_gripper
        if (middle, half) != (0.0, 1.0):
            stored[..., -1] = stored[..., -1] * half + middle
        return stored

    def normalize_proprio(self, proprio: Values) -> Values:
        """Stored robot state [..., P] (array or tensor) to model space, float32."""
        return self._proprio.normalize(proprio)

    def denormalize_proprio(self, proprio: Values) -> Values:
        """The inverse of `normalize_proprio`."""
        return self._proprio.denormalize(proprio)

    def physical_actions(self, actions: Values) -> Values:
        """Actions [..., A] in model space to metres and radians (`action_units`); the gripper stays -1 to +1."""
        gripper = actions[..., -1:]
        scale = np.array((*self.conventions.action_scale[:-1], 1.0), dtype=np.float32)
        stored = self._actions.denormalize(actions)
        if isinstance(stored, Tensor):
            stored = stored * stored.new_tensor(scale)
        else:
            stored = stored * scale
        stored[..., -1:] = gripper
        return stored

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of every action dimension."""
        return self.conventions.action_names

    @property
    def action_units(self) -> tuple[str, ...]:
        """Unit of every dimension of `physical_actions`."""
        return self.conventions.action_units

    # --- saving ---

    @property
    def statistics_hash(self) -> str:
        """SHA-256 of the statistics."""
        return statistics_hash(self.statistics)

    def contract(self) -> dict[str, Any]:
        """Everything that both sides of a policy must agree on, as a plain dict for JSON."""
        return {
            "format": FORMAT,
            "config": asdict(self.config),
            "chunk_size": self.chunk_size,
            "conventions": self.conventions.to_dict(),
            "model_gripper": "-1 open, +1 closed",
            "statistics": statistics_to_dict(self.statistics),
            "statistics_hash": self.statistics_hash,
        }

    def save(self, folder: Path) -> Path:
        """Write `processor.json` into `folder`; returns its path."""
        path = folder / PROCESSOR_FILE
        path.write_text(json.dumps(self.contract(), indent=2) + "\n")
        return path

    @classmethod
    def load(cls, folder: Path) -> "Processor":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no `processor.json` in `folder`.
            ValueError: it isn't one, or its statistics don't fit their hash.
        """
        path = folder / PROCESSOR_FILE
        try:
            values = json.loads(path.read_text())
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}, expected {FORMAT}")
            config: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["config"].items()}
            processor = cls(
                ProcessorConfig(**config), values["chunk_size"], statistics_from_dict(values["statistics"]),
                Conventions.from_dict(values["conventions"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{path}: not a processor file ({error})") from error
        if processor.statistics_hash != values["statistics_hash"]:
            raise UserError(f"{path}: the statistics were changed after they were saved (hash differs)")
        return processor
