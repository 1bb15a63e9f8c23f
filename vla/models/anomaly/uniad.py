"""UniAD (arXiv 2206.03687): a frozen backbone's features, rebuilt by one transformer for all classes.

Shapes: B samples, C channels of the aligned features, h x w their map, H x W the picture.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.batches import AnomalyBatch
from vla.conf.models.anomaly_parts import EfficientNetPartConfig
from vla.conf.models.uniad import UniADConfig
from vla.models.anomaly import backbones
from vla.models.anomaly.criterion import apply_criteria
from vla.models.anomaly.net import build_net
from vla.models.anomaly.part import Part
from vla.models.anomaly.reconstruction import anomaly_map
from vla.models.base import BaseModel, FeatureSource, ModelOutput
from vla.models.weights_source import WeightsNotFound, WeightsRequest, find_weights

VISION, CHECKPOINT = "vision_backbone", "published_checkpoint"
FEATURES = f"{VISION}.features"  # in `batch.features`: float32 [B, C, h, w], after the neck


@dataclass
class AnomalyOutput(ModelOutput):
    """What a forward pass gives."""

    sample_loss: Tensor = field(default_factory=lambda: torch.empty(0))  # float32 [B], mean over a sample's features
    sample_logs: dict[str, Tensor] = field(default_factory=dict)  # float32 [B] by criterion, without gradient
    anomaly_maps: Tensor | None = None  # float32 [B, H, W], in evaluation mode


class UniAD(BaseModel):
    """
    Args:
        config: Its parts, losses and sizes.
        weights: Local file of the backbone (`vision_backbone`), or of a whole published UniAD (`published_checkpoint`).
        assets: Unused: all sizes are in the configuration.
    """

    def __init__(
        self, config: UniADConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None
    ) -> None:
        super().__init__()
        weights = weights or {}
        self.config = config
        parts = build_net(config.net, config.processor.input_size, weights.get(VISION))
        self.vision_backbone, self.neck, self.reconstruction = (parts[group] for group in config.module_groups)
        if CHECKPOINT in weights:
            from vla.models.anomaly.published import load_published

            load_published(self, Path(weights[CHECKPOINT]))

    @classmethod
    def find_weights(cls, config: UniADConfig) -> dict[str, str]:
        """Where the backbone's weights are, or the published checkpoint with all; see `BaseModel`."""
        if config.published_checkpoint is not None:
            if not Path(config.published_checkpoint).is_file():
                raise WeightsNotFound(f"model.published_checkpoint: no such file: {config.published_checkpoint}")
            return {CHECKPOINT: config.published_checkpoint}
        backbone = config.net[0]
        own = backbone.weights if isinstance(backbone, EfficientNetPartConfig) else None
        name = config.backbone_weights or own
        if name is None:
            return {}
        return find_weights([WeightsRequest(VISION, backbones.FIELD, name, backbones.WEIGHT_FILES)])

    def module_groups(self) -> dict[str, nn.Module]:
        """See `BaseModel`."""
        return {name: getattr(self, name) for name in self.config.module_groups}

    def fsdp_units(self) -> list[nn.Module]:
        """See `BaseModel`: those of the parts."""
        return [unit for part in self._parts() for unit in part.fsdp_units()]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `BaseModel`."""
        for part in self._parts():
            part.set_gradient_checkpointing(enabled)

    def _parts(self) -> tuple[Part, Part, Part]:
        return self.vision_backbone, self.neck, self.reconstruction

    def feature_sources(self) -> dict[str, FeatureSource]:
        """See `BaseModel`: the aligned features by sample, as far as nothing in the neck is learned."""
        if next(self.neck.parameters(), None) is not None:
            return {}
        return {VISION: FeatureSource(lambda batch: batch.sample_ids.tolist(), self._compute, self._settings())}

    def _settings(self) -> str:
        """What features depend on besides the backbone's weights and the pictures."""
        backbone, neck = (asdict(part) for part in self.config.net[:2])
        return repr((backbone | {"weights": None}, neck))

    def forward(self, batch: AnomalyBatch, *, request: str = "loss") -> Any:  # type: ignore[override]
        """
        One forward pass. Everything goes through here, so that wrappers (FSDP) see it.

        Args:
            batch: With normalised pictures, or with features.
            request: `loss`, `predict`, or `vision_backbone` for its features.

        Returns:
            `loss`: an `AnomalyOutput`. `predict`: maps of anomaly float32 [B, H, W]. `vision_backbone`: its entry of
            `batch.features`.
        """
        features = batch.features[FEATURES] if FEATURES in batch.features else self.features_of(batch.images)
        if request == VISION:
            return {FEATURES: features}
        rebuilt = self.reconstruction(features, batch.rng_seeds)
        maps = None if self.training else self._map(rebuilt, features)
        if request == "predict":
            return self._map(rebuilt, features) if maps is None else maps
        loss, logs = apply_criteria(self.config.criterion, rebuilt, features.detach())
        return AnomalyOutput(sample_loss=loss, sample_logs=logs, anomaly_maps=maps)

    def features_of(self, images: Tensor) -> Tensor:
        """Aligned features float32 [B, C, h, w] of normalised pictures [B, 3, H, W]; they are the target, too.

        As a target they never take a gradient: a backbone that trains would make them easy instead of telling.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and VISION not in self.frozen_groups):
            maps = self.vision_backbone(images)
        return self.neck(maps)

    @torch.no_grad()
    def predict(self, batch: AnomalyBatch) -> Tensor:
        """Maps of anomaly float32 [B, H, W]: the distance between features and rebuilt features at each pixel."""
        return self(batch, request="predict")

    @torch.no_grad()
    def _compute(self, batch: AnomalyBatch) -> dict[str, Tensor]:
        return self(batch, request=VISION)

    @torch.no_grad()
    def _map(self, rebuilt: Tensor, features: Tensor) -> Tensor:
        return anomaly_map(rebuilt, features, self.reconstruction.outstrides[0])
