"""The AnomalyProcessor: from pictures and masks to what an anomaly detector sees; saved with it."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla.conf.models.uniad import AnomalyProcessorConfig
from vla.errors import UserError

PROCESSOR_FILE = "processor.json"
KIND = "anomaly"
FORMAT = 1


@dataclass(frozen=True)
class AnomalyProcessor:
    """One value that training, evaluation and serving share: size and normalisation of pictures.

    Args:
        config: what the model sees.
    """

    config: AnomalyProcessorConfig

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.config.input_size
        return width, height  # as Pillow has it

    def picture(self, image: Image.Image) -> np.ndarray:
        """uint8 [3, H, W]: squeezed to `input_size` bilinearly, antialiased; a grey picture gets three channels."""
        resized = image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))

    def mask(self, image: Image.Image) -> np.ndarray:
        """bool [H, W]: where a mask, squeezed to `input_size` by the nearest pixel, is not black."""
        return np.asarray(image.convert("L").resize(self._size, Image.Resampling.NEAREST)) > 0

    @cached_property
    def _normalization(self) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(values)[:, None, None] for values in (self.config.pixel_mean, self.config.pixel_std))  # type: ignore[return-value]

    def images(self, pictures: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> float32 [..., 3, H, W], normalised, on the same device."""
        mean, std = (values.to(pictures.device) for values in self._normalization)
        return pictures.float().div_(255).sub_(mean).div_(std)

    @property
    def image_settings(self) -> str:
        """What features depend on besides weights and files."""
        return repr((self.config.input_size, self.config.pixel_mean, self.config.pixel_std))

    def contract(self) -> dict[str, Any]:
        """Everything that both sides must agree on, as a plain dict for JSON."""
        config = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.config).items()}
        return {"kind": KIND, "format": FORMAT, "config": config, "resize": "bilinear, antialiased; masks nearest"}

    def save(self, folder: Path) -> Path:
        """Write `processor.json` into `folder`; returns its path."""
        path = folder / PROCESSOR_FILE
        path.write_text(json.dumps(self.contract(), indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, folder: Path) -> "AnomalyProcessor":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no `processor.json` in `folder`.
            UserError: it isn't one of an anomaly detector.
        """
        path = folder / PROCESSOR_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (values["kind"], values["format"]) != (KIND, FORMAT):
                raise ValueError(f"kind {values['kind']!r}, format {values['format']}")
            config: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["config"].items()}
            return cls(AnomalyProcessorConfig(**config))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{path}: not a processor file of an anomaly detector ({error})") from error
