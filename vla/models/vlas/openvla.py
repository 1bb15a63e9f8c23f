"""OpenVLA: a vision-language model that answers "what should the robot do?" with action tokens (arXiv 2406.09246).

B samples, S images of a sample, P patches of an image, C their channels, D width of the language model, K actions of a
chunk, A action dimensions. Actions in model space have the gripper -1 for open and +1 for closed; the tokens of
published models have it 1 for open and 0 for closed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.batches import ActionBatch
from vla.conf.models.openvla import OpenVLAConfig
from vla.errors import UserError
from vla.models.base import FeatureSource
from vla.models.vlas.action_text import ActionPrompter, ActionText
from vla.models.vlas.action_tokens import ActionTokenizer
from vla.models.vlas.output import ActionOutput
from vla.models.vlms.fusing import Sequences, fuse
from vla.models.vlms.generation import Sampling, generate
from vla.models.vlms.prismatic import PATCHES, VISION, PrismaticVLM
from vla.models.weights.empty import parameters_on_meta
from vla.models.weights.openvla import FIELD, MODEL, WEIGHT_FILES, load_openvla, open_openvla
from vla.models.weights_source import WeightsRequest, find_weights
from vla.tokenization import BYTES


class OpenVLA(PrismaticVLM):
    """
    The policy: `PrismaticVLM`'s parts under the same names, with actions for words.

    Args:
        config: Sizes and parts.
        weights: Where pretrained weights are, see `find_weights`.
        assets: Folder written by `save_assets`, instead of weights.

    Example:
        >>> model = OpenVLA(OpenVLATinyConfig()).eval()
        >>> model.predict(batch).shape  # of an ActionBatch with 4 samples
        torch.Size([4, 1, 7])
    """

    config: OpenVLAConfig
    may_skip_parameters = False  # every sample has an image

    def __init__(
        self, config: OpenVLAConfig, weights: Mapping[str, str] | None = None, assets: Path | None = None
    ) -> None:
        folder = (weights or {}).get(MODEL)
        if folder is None:
            super().__init__(config, weights, assets)
            return
        opened = open_openvla(folder)
        with parameters_on_meta():
            super().__init__(opened.fit(config))
        load_openvla(self, opened, list(self.vision_backbone.towers))

    @classmethod
    def find_weights(cls, config: Any) -> dict[str, str]:
        """Where the weights that `config` names are: of the whole model as `model`, or those of its parts.

        Raises:
            WeightsNotFound: Some can't be had.
        """
        if config.weights is None:
            return super().find_weights(config)
        return find_weights([WeightsRequest(MODEL, FIELD, config.weights, WEIGHT_FILES)])

    @cached_property
    def action_tokens(self) -> ActionTokenizer:
        """Actions to token ids and back.

        Raises:
            UserError: the language model has no rows for them.
        """
        llm = self.llm_backbone
        own = llm.config.vocab_size if llm.config.tokenizer == BYTES else llm.tokenizer.vocab_size
        size = self.config.action_vocab_size or own
        if not self.config.action_bins <= size <= llm.vocab_size:
            raise UserError(
                f"model.action_vocab_size: must be in [{self.config.action_bins}, {llm.vocab_size}] (action_bins, rows "
                f"of the language model), got {size}"
            )
        return ActionTokenizer(size, self.config.action_bins)

    @cached_property
    def prompter(self) -> ActionPrompter:
        """Instructions to questions."""
        llm, longest = self.llm_backbone, self.config.processor.max_instruction_tokens
        return ActionPrompter(llm.tokenizer, llm.config.prompt, longest)

    def feature_sources(self) -> dict[str, FeatureSource]:
        """See `BaseModel`: patches by sample."""
        settings = repr((replace(self.config.vision_backbone, weights={}), self.config.feature_precision))
        return {VISION: FeatureSource(lambda batch: batch.sample_ids.tolist(), self._compute_patches, settings)}

    def forward(self, batch: ActionBatch, *, request: str = "loss") -> Any:  # type: ignore[override]
        """
        One forward pass. Everything goes through here, so that wrappers (FSDP) see it.

        Args:
            batch: With float images in [0, 1], or their patches in `features`.
            request: `loss`, `predict`, or `vision_backbone` for its features.

        Returns:
            `loss`: an `ActionOutput`. `predict`: actions [B, K, A]. `vision_backbone`: its entry of `batch.features`.
        """
        if request == VISION:
            return {PATCHES: self._see(batch.images)}
        if request == "predict":
            return self._predict(batch)
        answers = self.action_tokens.encode(self._to_published(batch.actions)).flatten(1)
        text = self.prompter(batch.instructions, answers)
        sequences = self._fuse(batch, text)
        hidden = self.llm_backbone(sequences.embeds, sequences.attention_mask)
        return self._token_output(hidden, text, answers, batch)

    @torch.no_grad()
    def predict(self, batch: ActionBatch) -> Tensor:
        """Actions float32 [B, K, A] in normalised model space: of every action token the likeliest."""
        return self(batch, request="predict")

    def _see(self, images: Tensor) -> Tensor:
        """Patches [B, S x P, C] of images [B, S, 3, h, w] in [0, 1]."""
        patches = self.encode_images(self._pixel_values(images.flatten(0, 1)))
        return patches.unflatten(0, images.shape[:2]).flatten(1, 2)

    def _pixel_values(self, images: Tensor) -> dict[str, Tensor]:
        """Images [N, 3, h, w] as each tower takes them."""
        found = {}
        for name, transform in self.config.vision_backbone.transforms.items():
            mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (transform.mean, transform.std))
            found[name] = (images - mean) / std
        return found

    def _fuse(self, batch: ActionBatch, text: ActionText, *extra: Tensor) -> Sequences:
        """Embedded text with projected patches, and `extra` tokens [B, n, D] after them, behind its first token."""
        return self._join(self._project(batch), self.llm_backbone.embed(text.input_ids), text, *extra)

    def _project(self, batch: ActionBatch) -> Tensor:
        """Projected patches [B, S x P, D]."""
        kept = batch.features.get(PATCHES)
        patches = self._see(batch.images) if kept is None else kept
        return self.projector(patches.float() if VISION in self.frozen_groups or kept is not None else patches)

    def _join(self, patches: Tensor, embeds: Tensor, text: ActionText, *extra: Tensor) -> Sequences:
        seen = torch.cat((patches, *(tokens.to(patches.dtype) for tokens in extra)), dim=1)
        return fuse(Sequences(embeds, text.attention_mask), seen, [True] * len(embeds))

    def _token_output(self, hidden: Tensor, text: ActionText, answers: Tensor, batch: ActionBatch) -> ActionOutput:
        """
        Cross entropy of action tokens and end token, shared out to the action steps.

        Where every step counts, the mean over steps is the published mean over tokens. The end token belongs to all
        steps of its chunk alike.

        Args:
            hidden: [B, extra + L, D]; a token is predicted one place before it.
            text: Questions and answers, L tokens.
            answers: int64 [B, K x A].
            batch: Has the demonstrated actions.
        """
        chunk, tokens = self.config.chunk_size, self.action_tokens
        learned = answers.shape[1] + self.config.predict_stop_token
        labels = text.input_ids.gather(1, text.places(learned))
        logits = self.llm_backbone.logits(before_answers(hidden, text, learned)).float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        step_loss = loss[:, : answers.shape[1]].unflatten(1, (chunk, -1)).sum(-1)
        step_loss = (step_loss + loss[:, answers.shape[1] :].sum(1, keepdim=True) / chunk) * chunk / learned
        predicted = logits.detach()[:, : answers.shape[1]].argmax(-1)
        correct = tokens.compare(predicted, answers).correct.unflatten(1, (chunk, -1)).float().mean(-1)
        error = (self._to_actions(predicted) - batch.actions).abs().mean(-1)
        return ActionOutput(step_loss=step_loss, step_logs={"action_accuracy": correct, "action_l1": error})

    def _predict(self, batch: ActionBatch) -> Tensor:
        text = self._on_device(self.prompter(batch.instructions), batch)
        sequences = self._fuse(batch, text)
        count = self.config.chunk_size * self.config.processor.action_dim
        among = (self.action_tokens.first_id, self.action_tokens.vocab_size)
        answers = generate(self.llm_backbone, sequences, None, Sampling(max_new_tokens=count, among=among)).tokens
        return self._to_actions(torch.tensor(answers, device=sequences.embeds.device))

    def _likeliest_action(self, logits: Tensor) -> Tensor:
        """The likeliest action token [...] by logits [..., V]; other tokens are not chosen from."""
        tokens = self.action_tokens
        return logits[..., tokens.first_id : tokens.vocab_size].argmax(-1) + tokens.first_id

    def _to_actions(self, token_ids: Tensor) -> Tensor:
        """Action tokens [B, K x A] to actions float32 [B, K, A] in model space."""
        return self._from_published(self._values(token_ids))

    def _values(self, token_ids: Tensor) -> Tensor:
        """Action tokens [B, K x A] to the values float32 [B, K, A] that they stand for."""
        return self.action_tokens.decode(token_ids).float().unflatten(1, (self.config.chunk_size, -1))

    def _on_device(self, text: ActionText, batch: ActionBatch) -> ActionText:
        return ActionText(*(part.to(batch.images.device) for part in text))

    def _to_published(self, actions: Tensor) -> Tensor:
        """Actions [..., A] in model space as tokens stand for them: the gripper 1 for open, 0 for closed."""
        if self.config.gripper_tokens == "model":
            return actions
        return torch.cat((actions[..., :-1], (1 - actions[..., -1:]) / 2), dim=-1)

    def _from_published(self, actions: Tensor) -> Tensor:
        """The inverse of `_to_published`."""
        if self.config.gripper_tokens == "model":
            return actions
        return torch.cat((actions[..., :-1], 1 - 2 * actions[..., -1:]), dim=-1)


def before_answers(hidden: Tensor, text: ActionText, count: int) -> Tensor:
    """Hidden states [B, count, D] one place before each of the first `count` tokens after the questions."""
    extra = hidden.shape[1] - text.input_ids.shape[1]
    places = text.places(count) + extra - 1
    return hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))
