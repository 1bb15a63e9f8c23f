"""Prismatic: a vision backbone's patches, projected, take their place among a language model's tokens.

Architecture: arXiv 2402.07865. B samples, M of them with an image, L tokens, P patches, C their channels, D width of
the language model, V rows of its token table, T tokens that have a label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.conf.models.prismatic import LAST_LAYER, VLMConfig
from vla.conf.registry import resolve_target
from vla.models.backbones.causal_lm import CausalLM
from vla.models.base import BaseModel, FeatureSource
from vla.models.components.projectors import Projector
from vla.models.sharding import any_process, is_sharded
from vla.models.vlms.fusing import Sequences, fuse, labelled_positions
from vla.models.vlms.generation import Generation, OnToken, Sampling, generate
from vla.models.vlms.output import LanguageOutput
from vla.models.weights_source import find_weights

VISION, LANGUAGE = "vision_backbone", "llm_backbone"
PATCHES = f"{VISION}.patches"


class PrismaticVLM(BaseModel):
    """
    The model. Its parameters are float32, under the published names; which of them train is a stage's choice.

    Args:
        config: Sizes and parts.
        weights: Where pretrained weights are, see `find_weights`.
        assets: Folder written by `save_assets`, instead of weights.
    """

    may_skip_parameters = True  # batches of text alone use no projector

    def __init__(self, config: VLMConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None) -> None:
        super().__init__()
        weights = weights or {}
        self.config: Any = config  # a subclass knows which kind
        vision = resolve_target(config.vision_backbone)
        towers = {name.partition(".")[2]: path for name, path in weights.items() if name.startswith(f"{VISION}.")}
        self.vision_backbone = vision(config.vision_backbone, towers or None)
        self.llm_backbone = CausalLM(config.llm_backbone, weights.get(LANGUAGE), assets and assets / LANGUAGE)
        self.projector = Projector(
            config.projector_type, config.vision_backbone.embed_dim, self.llm_backbone.hidden_size
        )

    @classmethod
    def find_weights(cls, config: VLMConfig) -> dict[str, str]:
        """Where the weights that `config` names are, as `vision_backbone.<tower>` and `llm_backbone`.

        Raises:
            WeightsNotFound: Some can't be had.
        """
        vision = resolve_target(config.vision_backbone)
        return find_weights(
            [
                *vision.weight_requests(config.vision_backbone, VISION),
                *CausalLM.weight_requests(config.llm_backbone, LANGUAGE),
            ]
        )

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilds the model without its pretrained weights: the language model's sizes and tokenizer."""
        self.llm_backbone.save_assets(folder / LANGUAGE)

    def module_groups(self) -> dict[str, nn.Module]:
        """See `BaseModel`."""
        return {name: getattr(self, name) for name in self.config.module_groups}

    def module_parts(self) -> dict[str, frozenset[str]]:
        """See `BaseModel`: the language model's token table, last layer and output layer."""
        return {LAST_LAYER: frozenset(f"{LANGUAGE}.{name}" for name in self.llm_backbone.last_layer())}

    def unused_parameters(self) -> frozenset[str]:
        """See `BaseModel`: what comes after the towers' second-to-last blocks."""
        return frozenset(f"{VISION}.{name}" for name in self.vision_backbone.unused_parameters())

    def fsdp_units(self) -> list[nn.Module]:
        """See `BaseModel`: the blocks of both backbones."""
        return [*self.vision_backbone.fsdp_units(), *self.llm_backbone.fsdp_units()]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `BaseModel`."""
        self.vision_backbone.set_gradient_checkpointing(enabled)
        self.llm_backbone.set_gradient_checkpointing(enabled)

    def feature_sources(self) -> dict[str, FeatureSource]:
        """See `BaseModel`: an image's patches by sample."""
        config = self.config
        vision = replace(config.vision_backbone, weights={})
        settings = repr((vision, config.processor.image_resize_strategy, config.feature_precision))
        return {VISION: FeatureSource(lambda batch: batch.sample_ids.tolist(), self._compute_patches, settings)}

    def forward(self, batch: LanguageBatch, *, request: str = "loss") -> Any:  # type: ignore[override]
        """
        One forward pass. Everything goes through here, so that wrappers (FSDP) see it.

        Args:
            batch: Prepared: normalised float images by tower, or their patches in `features`.
            request: `loss`; `logits`, with samples as they are in the batch; `published`, the same with samples that
                have an image in front; or `vision_backbone` for its features.

        Returns:
            `loss`: a `LanguageOutput`. `logits` and `published`: logits [B, K, V], labels and mask [B, K], where K is
            P + L, or L if no sample has an image. `vision_backbone`: its entry of `batch.features`, [B, P, C].
        """
        if request == VISION:
            return {PATCHES: self._patches_of_all(batch)}
        sequences = self.fuse_batch(batch, published_order=request == "published")
        hidden = self.llm_backbone(sequences.embeds, sequences.attention_mask)
        if request != "loss":
            return self.llm_backbone.logits(hidden), sequences.labels, sequences.attention_mask
        # Logits are made where a label is and nowhere else: for all positions of 16 samples of 2,048 tokens they and
        # their gradient would take 8 GiB, while most positions (questions, patches, padding) have no label.
        num_patches = hidden.shape[1] - batch.labels.shape[1]
        rows, positions, labels = labelled_positions(batch.labels, batch.is_multimodal, num_patches)
        logits = self.llm_backbone.logits(hidden[rows, positions]).float()
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        return LanguageOutput(token_loss=loss, token_correct=logits.detach().argmax(-1) == labels, token_row=rows)

    def generate(
        self, prompts: Sequence[Sequence[int]], pixel_values: Mapping[str, Tensor] | None = None,
        has_image: Sequence[bool] | None = None, *, end_id: int | None = None, sampling: Sampling | None = None,
        on_token: OnToken | None = None,
    ) -> Generation:  # fmt: skip
        """
        Continue prompts; each gives what it would give alone.

        Args:
            prompts: Token ids of B prompts, of any lengths of at least one.
            pixel_values: By tower, normalised images float [B, 3, H, W]; None: no prompt has one.
            has_image: By prompt; None: all have one, if there are any.
            end_id: The token that ends a text; None: none does.
            sampling: How tokens are chosen; None: the likeliest one, 512 at most.
            on_token: Called with the new token of every prompt (None: complete) after every step.

        Raises:
            ValueError: A prompt is empty, or there is another number of images than of prompts.
        """
        prompt = self.read_prompts(prompts, pixel_values, has_image)
        return generate(self.llm_backbone, prompt, end_id, sampling or Sampling(), on_token)

    @torch.no_grad()
    def read_prompts(
        self, prompts: Sequence[Sequence[int]], pixel_values: Mapping[str, Tensor] | None = None,
        has_image: Sequence[bool] | None = None,
    ) -> Sequences:  # fmt: skip
        """What the language model reads of prompts; see `generate`."""
        size, device = len(prompts), self.llm_backbone.llm.get_input_embeddings().weight.device
        if not all(prompts):
            raise ValueError("prompts: must have at least one token each")
        for name, pixels in (pixel_values or {}).items():
            if len(pixels) != size:
                raise ValueError(f"pixel_values.{name}: must be {size} images, one per prompt, got {len(pixels)}")
        if has_image is None:
            has_image = [pixel_values is not None] * size
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.zeros(size, int(lengths.max()), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        batch = LanguageBatch(
            sample_ids=torch.arange(size, device=device),
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            labels=torch.full_like(ids, IGNORE_INDEX, device=device),
            pixel_values={name: pixels.to(device) for name, pixels in (pixel_values or {}).items()},
            is_multimodal=torch.tensor(has_image, device=device),
        )
        return self.fuse_batch(batch)

    def fuse_batch(self, batch: LanguageBatch, *, published_order: bool = False) -> Sequences:
        """What the language model reads: projected patches among embedded tokens; see `fuse`."""
        text = Sequences(self.llm_backbone.embed(batch.input_ids), batch.attention_mask, batch.labels)
        has_image: list[bool] = batch.is_multimodal.tolist()
        # Sharded, all processes must run the same modules and have gradients of the same parameters.
        here = any(has_image)
        anywhere = any_process(here, text.embeds.device) if is_sharded(self) else here
        if not anywhere:
            return text
        if not here:  # an image that counts for nothing
            patches = self.projector(self._patches(batch, [True, *has_image[1:]]))
            return replace(text, embeds=text.embeds + 0.0 * patches.sum())
        patches = self.projector(self._patches(batch, has_image))
        return fuse(text, patches, has_image, published_order=published_order)

    def encode_images(self, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """Patches [M, P, C] of normalised images float [M, 3, H, W] by tower; as they are kept, if frozen."""
        if VISION not in self.frozen_groups:
            return self.vision_backbone(pixel_values)
        with torch.no_grad():
            patches = self.vision_backbone(pixel_values)
        return patches.to(torch.float16 if self.config.feature_precision == "fp16" else torch.float32)

    def _patches(self, batch: LanguageBatch, rows: Sequence[bool]) -> Tensor:
        """Patches [M, P, C] of the given samples."""
        index = None if all(rows) else torch.tensor(rows).nonzero().flatten().to(batch.input_ids.device)

        def take(tensor: Tensor) -> Tensor:
            return tensor if index is None else tensor.index_select(0, index)

        if PATCHES in batch.features:
            return take(batch.features[PATCHES]).float()
        patches = self.encode_images({name: take(pixels) for name, pixels in batch.pixel_values.items()})
        return patches.float() if VISION in self.frozen_groups else patches

    @torch.no_grad()
    def _compute_patches(self, batch: LanguageBatch) -> dict[str, Tensor]:
        return self(batch, request=VISION)

    def _patches_of_all(self, batch: LanguageBatch) -> Tensor:
        """Patches [B, P, C]; those of samples without an image mean nothing."""
        return self.encode_images(batch.pixel_values)
