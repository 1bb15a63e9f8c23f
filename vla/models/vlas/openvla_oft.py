"""OpenVLA-OFT: a chunk of actions in one pass, from hidden states that see each other both ways (arXiv 2502.19645).

The language model reads the question, a place for every value of the chunk, and an end token. Of what the places get
to see, an action head makes actions. Shapes as in `vla.models.vlas.openvla`; L tokens of a text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.batches import ActionBatch
from vla.conf.models.openvla_oft import DiffusionHeadConfig, DiscreteHeadConfig, OpenVLAOFTConfig
from vla.models.base import FeatureSource
from vla.models.components.action_heads.flow_matching import draw_noise_and_time
from vla.models.components.film import FiLMBlock, add_film, film_patches
from vla.models.components.oft_heads import ActionModules, draw_timesteps
from vla.models.vlas.action_text import ActionText
from vla.models.vlas.openvla import OpenVLA, before_answers
from vla.models.vlas.output import ActionOutput
from vla.models.vlms.fusing import Sequences
from vla.models.vlms.prismatic import PATCHES, VISION
from vla.models.weights.openvla import MODEL, open_openvla
from vla.models.weights.openvla_oft import load_oft


@dataclass(frozen=True)
class _Reading:
    """A batch as the language model reads it, the actions' places empty."""

    text: ActionText
    answers: Tensor  # int64 [B, K x A]
    embeds: Tensor  # [B, L, D], zero at the actions' places
    seen: Tensor  # [B, S x P (+ 1), D], projected patches, and the robot's state


class OpenVLAOFT(OpenVLA):
    """
    The policy: OpenVLA's parts under the same names, and `action_head` (`ActionModules`).

    Args:
        config: Sizes and parts.
        weights: Where pretrained weights are, see `find_weights`.
        assets: Folder written by `save_assets`, instead of weights.
    """

    config: OpenVLAOFTConfig

    def __init__(
        self, config: OpenVLAOFTConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None
    ) -> None:
        super().__init__(config, weights, assets)
        proprio_dim = config.proprio_dim if config.processor.proprio else None
        width = self.llm_backbone.hidden_size
        self.action_head = ActionModules(config.action_head, width, config.processor.action_dim, proprio_dim)
        if config.film:
            for tower in self.vision_backbone.towers.values():
                add_film(tower, width)
        if MODEL in (weights or {}):
            folder, towers = open_openvla((weights or {})[MODEL]).path, list(self.vision_backbone.towers)
            load_oft(self.action_head, self.vision_backbone, folder, towers)

    def unused_parameters(self) -> frozenset[str]:
        """See `BaseModel`: also the language model's output layer, unless it is asked for tokens."""
        unused, llm = super().unused_parameters(), self.llm_backbone.llm
        if isinstance(self.config.action_head, DiscreteHeadConfig) or llm.config.tie_word_embeddings:
            return unused
        output = {id(parameter) for parameter in llm.get_output_embeddings().parameters()}
        return unused | {name for name, parameter in self.named_parameters() if id(parameter) in output}

    def parameters_beside_adapters(self) -> frozenset[str]:
        """See `BaseModel`: FiLM's."""
        parts = [name for name, module in self.named_modules() if isinstance(module, FiLMBlock)]
        return frozenset(
            f"{part}.{layer}.{kind}" for part in parts for layer in ("scale", "shift") for kind in ("weight", "bias")
        )

    def feature_sources(self) -> dict[str, FeatureSource]:
        """See `BaseModel`: patches by sample, unless they depend on the instruction."""
        return {} if self.config.film else super().feature_sources()

    def forward(self, batch: ActionBatch, *, request: str = "loss") -> Any:  # type: ignore[override]
        """See `OpenVLA.forward`.

        Raises:
            ValueError: the model takes the robot's state, and the batch has none.
        """
        if request == VISION:
            return {PATCHES: self._see(batch.images)}
        reading = self._read(batch)
        head = self.config.action_head
        if request == "predict":
            return self._from_published(self._predict_published(reading, batch)).clone()
        if isinstance(head, DiscreteHeadConfig):
            return self._token_output(self._run(reading), reading.text, reading.answers, batch)
        target = self._to_published(batch.actions).float()
        if isinstance(head, DiffusionHeadConfig):
            return self._noise_output(reading, target, batch)
        predicted = self._from_slots(self._run(reading), reading)
        error = (self._from_published(predicted.detach()) - batch.actions).abs().mean(-1)
        return ActionOutput(step_loss=(predicted - target).abs().mean(-1), step_logs={"action_l1": error})

    # --- what goes in ---

    def _read(self, batch: ActionBatch) -> _Reading:
        answers = self.action_tokens.encode(self._to_published(batch.actions)).flatten(1)
        text = self.prompter(batch.instructions, answers)
        embeds = self.llm_backbone.embed(text.input_ids)
        is_slot = torch.zeros_like(text.attention_mask).scatter(1, text.places(answers.shape[1]), True)
        condition = None
        if self.config.film:
            condition = _mean(embeds, text.attention_mask & ~is_slot)
        patches = self._project_seen(batch, condition)
        seen = torch.cat((patches, *self._cast(self.action_head.proprio_token(batch.proprio), patches)), dim=1)
        return _Reading(text, answers, embeds.masked_fill(is_slot[..., None], 0.0), seen)

    def _project_seen(self, batch: ActionBatch, condition: Tensor | None) -> Tensor:
        if condition is None:
            return self._project(batch)
        condition = condition.repeat_interleave(batch.images.shape[1], dim=0)
        pixels = self._pixel_values(batch.images.flatten(0, 1))
        with torch.set_grad_enabled(torch.is_grad_enabled() and VISION not in self.frozen_groups):
            towers = self.vision_backbone.towers
            maps = [film_patches(towers[name], images, condition) for name, images in pixels.items()]
        patches = torch.cat(maps, dim=-1).unflatten(0, batch.images.shape[:2]).flatten(1, 2)
        return self.projector(patches)

    @staticmethod
    def _cast(tokens: list[Tensor], like: Tensor) -> list[Tensor]:
        return [token.to(like.dtype) for token in tokens]

    # --- through the language model ---

    def _run(self, reading: _Reading, slots: Tensor | None = None, *extra: Tensor) -> Tensor:
        """
        Hidden states [B, everything, D]; all that is no padding sees all that is no padding.

        Args:
            reading: The batch.
            slots: What stands at the actions' places, [B, K x A, D]; None: nothing.
            extra: More tokens [B, n, D] behind what is seen.
        """
        embeds = reading.embeds
        if slots is not None:
            places = reading.text.places(slots.shape[1])[..., None].expand(-1, -1, embeds.shape[-1])
            embeds = embeds.scatter(1, places, slots.to(embeds.dtype))
        sequences: Sequences = self._join(reading.seen, embeds, reading.text, *extra)
        length = sequences.embeds.shape[1]
        mask = sequences.attention_mask[:, None, None].expand(-1, 1, length, -1)
        return self.llm_backbone(sequences.embeds, mask)

    def _from_slots(self, hidden: Tensor, reading: _Reading) -> Tensor:
        """What the head makes of the places, [B, K, A] float32."""
        states = before_answers(hidden, reading.text, reading.answers.shape[1])
        return self.action_head(states, self.config.chunk_size)

    # --- what comes out ---

    def _predict_published(self, reading: _Reading, batch: ActionBatch) -> Tensor:
        """Actions float32 [B, K, A] as the published model gives them."""
        head = self.config.action_head
        if isinstance(head, DiffusionHeadConfig):
            return self._denoise(reading, batch, head)
        hidden = self._run(reading)
        if not isinstance(head, DiscreteHeadConfig):
            return self._from_slots(hidden, reading)
        logits = self.llm_backbone.logits(before_answers(hidden, reading.text, reading.answers.shape[1]))
        return self._values(self._likeliest_action(logits))

    def _noise_output(self, reading: _Reading, target: Tensor, batch: ActionBatch) -> ActionOutput:
        ddim = self.action_head.action_head.ddim
        noise, uniform = draw_noise_and_time(batch.rng_seeds, len(target), target.shape[1:], target.device)
        timesteps = draw_timesteps(uniform, ddim.num_train_steps)
        predicted = self._predict_noise(reading, ddim.add_noise(target, noise, timesteps), timesteps)
        return ActionOutput(step_loss=(predicted - noise).square().mean(-1))

    def _predict_noise(self, reading: _Reading, noisy: Tensor, timesteps: Tensor) -> Tensor:
        modules = self.action_head
        hidden = self._run(reading, modules.noisy_tokens(noisy), modules.action_head.timestep_token(timesteps))
        return self._from_slots(hidden, reading)

    def _denoise(self, reading: _Reading, batch: ActionBatch, head: DiffusionHeadConfig) -> Tensor:
        ddim, steps = self.action_head.action_head.ddim, head.num_inference_steps
        shape = (self.config.chunk_size, self.config.processor.action_dim)
        values, _ = draw_noise_and_time(batch.rng_seeds, len(reading.embeds), shape, reading.embeds.device)
        for timestep in ddim.timesteps(steps):
            timesteps = torch.full((len(values),), timestep, device=values.device)
            values = ddim.step(self._predict_noise(reading, values, timesteps), timestep, values, steps)
        return values


def _mean(embeds: Tensor, mask: Tensor) -> Tensor:
    """Mean [B, D] of embeddings [B, L, D] where `mask` [B, L] holds."""
    weights = mask.to(embeds.dtype)
    return torch.einsum("bl,bld->bd", weights, embeds) / weights.sum(1, keepdim=True)
