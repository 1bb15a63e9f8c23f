"""AtlasVLA: a scene's geometry and a language model's instruction, fused by attention, decide the robot's action.

Shapes: B samples, S images of a sample, L language tokens, A action dimensions.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.batches import ActionBatch
from vla.conf.models.atlas import AtlasConfig, AtlasVLAConfig
from vla.conf.registry import resolve_target
from vla.models.backbones import efficientnet, vggt
from vla.models.backbones.efficientnet import EfficientNetBackbone
from vla.models.backbones.llm import LLMBackbone
from vla.models.backbones.vggt import SceneFeatures, VGGTBackbone
from vla.models.base import BaseModel, FeatureSource
from vla.models.components.action_heads.base import ActionHead, HeadInput
from vla.models.components.fusion import get_fusion
from vla.models.components.geometry_encoder import GeometryEncoder
from vla.models.sharding import is_sharded
from vla.models.vlas.output import ActionOutput
from vla.models.weights_source import WeightsRequest, find_weights

VISION, LANGUAGE = "vision_backbone", "llm_backbone"


class AtlasVLA(BaseModel):
    """
    The policy. Its parameters are float32; which of them train is a stage's choice (`vla.models.freezing`).

    Args:
        config: Sizes and parts.
        weights: Where pretrained weights are, by module group; see `find_weights`.
        assets: Folder written by `save_assets`, instead of weights.

    Example:
        >>> model = AtlasVLA(VGGTTinyConfig()).eval()
        >>> out = model(torch.rand(1, 2, 3, 112, 112), ["open the drawer"], proprio=torch.zeros(1, 8))
        >>> out["pose"].shape, out["gripper"].shape, out["actions"].shape
        (torch.Size([1, 6]), torch.Size([1, 1]), torch.Size([1, 1, 7]))
    """

    def __init__(
        self, config: AtlasConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None
    ) -> None:
        super().__init__()
        weights = weights or {}
        self.config = config
        processor, geometry = config.processor, config.geometry_encoder
        self.vision_backbone = _get_vision_backbone(config, weights.get(VISION))
        self.llm_backbone = LLMBackbone(
            config.llm, processor.max_instruction_tokens, weights.get(LANGUAGE), assets and assets / LANGUAGE
        )
        side = processor.image_size // config.vision.patch_size
        self.geometry_encoder = GeometryEncoder(
            geometry, self.vision_backbone.feature_dim, (side, side), processor.num_frames, len(processor.cameras)
        )
        self.fusion = get_fusion(config.fusion, self.llm_backbone.hidden_size, geometry.dim)
        proprio_dim = processor.proprio_dim if processor.proprio else None
        self.action_head: ActionHead = resolve_target(config.action_head)(
            config.action_head, config.fusion.dim, processor.action_dim, proprio_dim
        )

    @classmethod
    def find_weights(cls, config: AtlasConfig) -> dict[str, str]:
        """Where the weights that `config` names are, by module group; `WeightsNotFound` if they can't be had."""
        requests = []
        if config.vision.weights is not None:
            module = vggt if isinstance(config, AtlasVLAConfig) else efficientnet
            requests.append(WeightsRequest(VISION, module.FIELD, config.vision.weights, module.WEIGHT_FILES))
        if config.llm.weights is not None:
            requests.append(WeightsRequest(LANGUAGE, "model.llm.weights", config.llm.weights))
        return find_weights(requests)

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilds the model without its pretrained weights: the language model's sizes and tokenizer."""
        self.llm_backbone.save_assets(folder / LANGUAGE)

    @property
    def tokenizer(self) -> Any:
        """The language model's Hugging Face tokenizer."""
        return self.llm_backbone.tokenizer

    def module_groups(self) -> dict[str, nn.Module]:
        """See `BaseModel`."""
        return {name: getattr(self, name) for name in self.config.module_groups}

    def unused_parameters(self) -> frozenset[str]:
        """See `BaseModel`."""
        unused = self.vision_backbone.unused_parameters(self.config.geometry_encoder)
        return frozenset(f"{VISION}.{name}" for name in unused)

    def fsdp_units(self) -> list[nn.Module]:
        """See `BaseModel`: the blocks of both backbones and of the fusion."""
        return [*self.vision_backbone.fsdp_units(), *self.llm_backbone.fsdp_units(), *self.fusion.fsdp_units()]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `BaseModel`."""
        self.vision_backbone.set_gradient_checkpointing(enabled)
        self.llm_backbone.set_gradient_checkpointing(enabled)
        self.fusion.gradient_checkpointing = enabled

    def feature_sources(self) -> dict[str, FeatureSource]:
        """See `BaseModel`: the scene's features by sample, the language model's by instruction."""
        return {
            VISION: FeatureSource(
                lambda batch: batch.sample_ids.tolist(), partial(self._compute, VISION), self._vision_settings()
            ),
            LANGUAGE: FeatureSource(
                lambda batch: batch.instructions, partial(self._compute, LANGUAGE), sees_images=False
            ),
        }

    def _vision_settings(self) -> str:
        """What the scene's features depend on besides the backbone's weights and the images."""
        geometry, config = self.config.geometry_encoder, self.config
        kept = (geometry.layers, geometry.tokens == "frame", geometry.pool_size, geometry.use_pose)
        points = geometry.num_points if geometry.use_pointnet else None
        return repr((config.vision, kept, points, config.feature_precision))

    def forward(  # type: ignore[override]
        self,
        batch: ActionBatch | Tensor,
        instructions: list[str] | None = None,
        proprio: Tensor | None = None,
        *,
        request: str = "loss",
    ) -> Any:
        """
        One forward pass. Everything goes through here, so that wrappers (FSDP) see it.

        Args:
            batch: An `ActionBatch` with float images; or images [B, S, 3, H, W] in [0, 1] (the published interface).
            instructions: B instructions, with images.
            proprio: float [B, 8] normalised, with images, if the model uses it.
            request: `loss`, `predict`, or a backbone's name for its features; with a batch.

        Returns:
            `loss`: an `ActionOutput`. `predict`: actions [B, chunk, A]. A backbone: its entries of `batch.features`.
            For images: `pose` [B, 6] normalised, `gripper` [B, 1] in [0, 1] (1 = closed), `actions` [B, chunk, A].

        Raises:
            ValueError: The images or the robot state don't fit the model.
        """
        if isinstance(batch, Tensor):
            return self._forward_published(batch, instructions or [], proprio)
        if request == VISION:
            return _scene_to_features(self._scene(batch.images))
        if request == LANGUAGE:
            return {f"{LANGUAGE}.tokens": self._frozen_language(batch.instructions, batch.images.device)}
        inputs = self._fuse(batch)
        if request == "predict":
            return self.action_head.predict(inputs, batch.rng_seeds).clone()  # FSDP hooks an output that is no view
        loss, logs = self.action_head.losses(inputs, batch.actions, batch.rng_seeds)
        return ActionOutput(step_loss=loss, step_logs=logs)

    @torch.no_grad()
    def predict(self, batch: ActionBatch) -> Tensor:
        """Actions float32 [B, chunk, A] in normalised model space; heads that sample draw from `batch.rng_seeds`."""
        return self(batch, request="predict")

    @torch.no_grad()
    def _compute(self, group: str, batch: ActionBatch) -> dict[str, Tensor]:
        return self(batch, request=group)

    def _forward_published(self, images: Tensor, instructions: list[str], proprio: Tensor | None) -> dict[str, Tensor]:
        if len(images) != len(instructions):
            raise ValueError(f"instructions: must be {len(images)}, one per sample, got {len(instructions)}")
        shape = (len(images), self.config.chunk_size, self.config.processor.action_dim)
        actions = images.new_zeros(shape)
        batch = ActionBatch(
            sample_ids=torch.arange(len(images)),
            images=images,
            instructions=instructions,
            actions=actions,
            action_mask=torch.ones(shape[:2], dtype=torch.bool, device=images.device),
            proprio=proprio,
        )
        actions = self.action_head.predict(self._fuse(batch), None)
        first = actions[:, 0]
        return {"pose": first[:, :-1], "gripper": ((first[:, -1:] + 1) / 2).clamp(0, 1), "actions": actions}

    def _fuse(self, batch: ActionBatch) -> HeadInput:
        scene = self._scene_of(batch)
        geometry = self.geometry_encoder(scene.tokens, scene.pose, scene.points)
        language, mask = self._language_of(batch)
        fused = self.fusion(language, mask, geometry)
        return HeadInput(fused.pooled, fused.tokens, fused.mask, batch.proprio)

    def _scene_of(self, batch: ActionBatch) -> SceneFeatures:
        kept = batch.features
        if f"{VISION}.tokens" in kept:
            scene = SceneFeatures(*(kept.get(f"{VISION}.{name}") for name in SceneFeatures._fields))  # type: ignore[arg-type]
        else:
            scene = self._scene(batch.images)
        return SceneFeatures(*(None if value is None else value.float() for value in scene))  # type: ignore[arg-type]

    def _scene(self, images: Tensor) -> SceneFeatures:
        config = self.config.geometry_encoder
        if VISION not in self.frozen_groups:
            return self.vision_backbone.encode_scene(images, config)
        with torch.no_grad():
            # alone, each sample gives the same bits in whatever batch it comes: kept features equal computed ones
            groups = [images] if is_sharded(self.vision_backbone) else images.split(1)
            scenes = [self.vision_backbone.encode_scene(group, config) for group in groups]
        dtype = torch.float16 if self.config.feature_precision == "fp16" else torch.float32
        parts = zip(*scenes, strict=True)
        return SceneFeatures(*(None if part[0] is None else torch.cat(part).to(dtype) for part in parts))  # type: ignore[arg-type]

    def _language_of(self, batch: ActionBatch) -> tuple[Tensor, Tensor]:
        """Tokens [B, L, D] and mask bool [B, L], L the longest instruction of the batch."""
        device = batch.images.device
        lengths = torch.tensor(self.llm_backbone.lengths(batch.instructions))
        longest = int(lengths.max())
        mask = (torch.arange(longest) < lengths[:, None]).to(device)
        tokens = batch.features.get(f"{LANGUAGE}.tokens")
        if tokens is None and LANGUAGE in self.frozen_groups:
            tokens = self._frozen_language(batch.instructions, device)
        if tokens is not None:
            return tokens[:, :longest], mask
        distinct, rows = _distinct(batch.instructions)
        text = self.llm_backbone.tokenize(distinct, longest)
        hidden = self.llm_backbone(text.input_ids.to(device), text.attention_mask.to(device)).float()
        return hidden.index_select(0, rows.to(device)), mask

    @torch.no_grad()
    def _frozen_language(self, instructions: list[str], device: torch.device) -> Tensor:
        """Tokens float32 [B, max_tokens, D], zero at padding; an instruction's don't depend on the others."""
        llm = self.llm_backbone
        distinct, rows = _distinct(instructions)
        groups = [distinct] if is_sharded(llm) else [[text] for text in distinct]
        parts = []
        for group in groups:
            text = llm.tokenize(group)
            mask = text.attention_mask.to(device)
            hidden = llm(text.input_ids.to(device), mask).float().masked_fill(mask[..., None] == 0, 0.0)
            parts.append(nn.functional.pad(hidden, (0, 0, 0, llm.max_tokens - hidden.shape[1])))
        return torch.cat(parts).index_select(0, rows.to(device))


def _get_vision_backbone(config: AtlasConfig, weights: str | None) -> VGGTBackbone | EfficientNetBackbone:
    if isinstance(config, AtlasVLAConfig):
        return VGGTBackbone(config.vggt, config.geometry_encoder, weights)
    return EfficientNetBackbone(config.vision, weights)


def _scene_to_features(scene: SceneFeatures) -> dict[str, Tensor]:
    return {f"{VISION}.{name}": value for name, value in scene._asdict().items() if value is not None}


def _distinct(texts: list[str]) -> tuple[list[str], Tensor]:
    """The distinct texts in order, and for each text its row among them."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    return list(rows), torch.tensor([rows[text] for text in texts])
