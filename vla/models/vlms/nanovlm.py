"""nanoVLM: tiles of pictures, shuffled into few tokens, take their places in packed sequences.

B sequences of L tokens that hold D samples; N tiles, K tokens a tile; V rows of the token table; T tokens with a label.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from vla.batches import IGNORE_INDEX, PackedBatch
from vla.conf.models.nanovlm import LANGUAGE, PROJECTOR, VISION, NanoVLMConfig
from vla.conf.registry import resolve_target
from vla.models.backbones.nano_lm import KeyValues, NanoLM
from vla.models.base import BaseModel
from vla.models.components.document_attention import visibility
from vla.models.components.pixel_shuffle import PixelShuffleProjector
from vla.models.sharding import is_sharded
from vla.models.vlms.output import LanguageOutput
from vla.models.weights.nanovlm import (
    CONFIG_FILE,
    load_published,
    read_published_config,
    save_published,
    upload_published,
)
from vla.models.weights.nanovlm_backbones import load_llama
from vla.models.weights_source import WeightsRequest, find_weights, hub_file

WHOLE = "model"  # key of the weights of a whole nanoVLM


class NanoVLM(BaseModel):
    """
    The model. Its parameters are float32; inside a module group they have the published names.

    Args:
        config: Sizes.
        weights: Where pretrained weights are, see `find_weights`.
        assets: Nothing is in it that this model needs.
    """

    def __init__(
        self, config: NanoVLMConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None
    ) -> None:
        super().__init__()
        weights = weights or {}
        self.config = config
        vision = resolve_target(config.vision_backbone)
        towers = {name.partition(".")[2]: path for name, path in weights.items() if name.startswith(f"{VISION}.")}
        self.vision_backbone = vision(config.vision_backbone, towers or None)
        width = config.llm_backbone.hidden_size
        self.projector = PixelShuffleProjector(config.vision_backbone.embed_dim, width, config.pixel_shuffle)
        self.llm_backbone = NanoLM(config.llm_backbone)
        if LANGUAGE in weights:
            load_llama(self.llm_backbone, weights[LANGUAGE])
        if WHOLE in weights:
            load_published(self, weights[WHOLE])

    @classmethod
    def find_weights(cls, config: NanoVLMConfig) -> dict[str, str]:
        """Where the weights that `config` names are: `model`, or `vision_backbone.<tower>` and `llm_backbone`.

        Raises:
            WeightsNotFound: Some can't be had.
        """
        if config.weights is not None:
            return find_weights([WeightsRequest(WHOLE, "model.weights", config.weights)])
        requests = resolve_target(config.vision_backbone).weight_requests(config.vision_backbone, VISION)
        if config.llm_backbone.weights is not None:
            requests.append(WeightsRequest(LANGUAGE, f"model.{LANGUAGE}.weights", config.llm_backbone.weights))
        return find_weights(requests)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "NanoVLM":
        """
        The model of a published folder, or of one that `save_pretrained` wrote.

        Args:
            source: Folder, or Hugging Face id.

        Raises:
            UserError: It can't be read, or isn't one.
        """
        where = find_weights([WeightsRequest(WHOLE, "source", str(source))])[WHOLE]
        folder = Path(where) if Path(where).is_dir() else hub_file(where, CONFIG_FILE).parent
        model = cls(read_published_config(folder))
        load_published(model, where)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` as published; see `save_published`."""
        save_published(self, self.config, Path(folder))

    def push_to_hub(self, repository: str, *, private: bool = False) -> str:
        """Upload what `save_pretrained` writes, with a card, to the Hugging Face hub; returns the model's page."""
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_published(Path(folder), repository, private=private)

    def module_groups(self) -> dict[str, nn.Module]:
        """See `BaseModel`."""
        return {name: getattr(self, name) for name in (VISION, PROJECTOR, LANGUAGE)}

    def unused_parameters(self) -> frozenset[str]:
        """See `BaseModel`."""
        return frozenset(f"{VISION}.{name}" for name in self.vision_backbone.unused_parameters())

    def fsdp_units(self) -> list[nn.Module]:
        """See `BaseModel`: the blocks of both backbones."""
        return [*self.vision_backbone.fsdp_units(), *self.llm_backbone.fsdp_units()]

    def blocks_to_compile(self) -> list[nn.Module]:
        """See `BaseModel`: the same blocks. Attention document by document stays out of what is compiled."""
        if self.config.attention not in ("dense", "flex"):
            self.llm_backbone.keep_attention_as_it_is()
        return self.fsdp_units()

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `BaseModel`."""
        self.vision_backbone.set_gradient_checkpointing(enabled)
        self.llm_backbone.set_gradient_checkpointing(enabled)

    def forward(self, batch: PackedBatch, *, request: str = "loss") -> Any:  # type: ignore[override]
        """
        One forward pass. Everything goes through here, so that wrappers (FSDP) see it.

        Args:
            batch: Prepared: normalised float tiles by tower.
            request: `loss`, `logits` or `hidden`.

        Returns:
            `loss`: a `LanguageOutput` whose `token_row` is the number of a token's sample in [0, D). `logits`: of the
            next token, [B, L, V]. `hidden`: last hidden states, [B, L, width].
        """
        embeds = self.embed(batch.input_ids, batch.image_mask, batch.pixel_values)
        length = batch.input_ids.shape[1]
        seen = visibility(
            batch.attention_mask, batch.segments, (len(embeds), length, length), self.config.attention, embeds.device
        )
        largest = length - 1
        if batch.segments is not None:  # positions begin anew in each segment
            largest = max((end - first for _, first, end in batch.segments), default=1) - 1
        hidden = self.llm_backbone(embeds, batch.position_ids, largest, seen)
        if request == "hidden":
            return hidden
        if request == "logits":
            return self.llm_backbone.logits(hidden)
        # Logits are made where a label is and nowhere else: most of a sequence is questions and tiles.
        rows, positions = (batch.labels[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
        labels = batch.labels[rows, positions + 1]
        logits = self.llm_backbone.logits(hidden[rows, positions]).float()
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        return LanguageOutput(
            token_loss=loss,
            token_correct=logits.detach().argmax(-1) == labels,
            token_row=batch.document_ids[rows, positions],
        )

    def embed(self, input_ids: Tensor, image_mask: Tensor, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """
        What the language model reads: embedded tokens, and tiles where images are.

        Args:
            input_ids: int64 [B, L].
            image_mask: bool [B, L], N * K times True.
            pixel_values: Float [N, 3, S, S] by tower; may be empty if N is 0.

        Returns:
            [B, L, width].

        Raises:
            ValueError: There are more or fewer places than the tiles need.
        """
        embeds = self.llm_backbone.embed(input_ids)
        count = len(next(iter(pixel_values.values()), ()))
        places = count * self.config.tokens_per_tile
        if not image_mask.is_cuda and int(image_mask.sum()) != places:
            raise ValueError(f"image_mask: must have {places} places for {count} tiles, got {int(image_mask.sum())}")
        if count:
            tokens = self.encode_tiles(pixel_values).to(embeds.dtype)
            return embeds.masked_scatter(image_mask[..., None], tokens)
        if self.training or is_sharded(self):
            # Processes need gradients of the same parameters, and shards the same calls: a tile counts for nothing.
            return embeds + 0.0 * self.encode_tiles(self._blank_tile(embeds.device)).sum()
        return embeds

    def encode_tiles(self, pixel_values: Mapping[str, Tensor]) -> Tensor:
        """Tokens [N, K, width] of tiles float [N, 3, S, S] by tower."""
        if VISION in self.frozen_groups:
            with torch.no_grad():
                patches = self.vision_backbone(pixel_values)
        else:
            patches = self.vision_backbone(pixel_values)
        return self.projector(patches)

    def _blank_tile(self, device: torch.device) -> dict[str, Tensor]:
        transforms = self.config.vision_backbone.transforms.items()
        return {tower: torch.zeros(1, 3, item.size, item.size, device=device) for tower, item in transforms}

    @torch.no_grad()
    def next_logits(self, embeds: Tensor, attention_mask: Tensor, cache: list[KeyValues] | None) -> Tensor:
        """
        Scores of the token that follows each sequence.

        Args:
            embeds: [B, L, width], the last L of M positions.
            attention_mask: bool [B, M], False at padding, which may be on the left.
            cache: What the positions before left behind, empty at first; None: L is M, and nothing is kept.

        Returns:
            [B, V].
        """
        batch, length = embeds.shape[:2]
        total = attention_mask.shape[1]
        mask = None if bool(attention_mask.all()) else attention_mask
        seen = visibility(mask, None, (batch, length, total), "dense", embeds.device)
        positions = torch.arange(total - length, total, device=embeds.device).expand(batch, -1)
        hidden = self.llm_backbone(embeds, positions, total - 1, seen, cache)
        return self.llm_backbone.logits(hidden[:, -1])
