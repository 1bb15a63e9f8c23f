"""nanoVLM at work: answers to questions about pictures, one by one or in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vla.data.vqa.collator import pad_left
from vla.data.vqa.dialogues import Turn
from vla.data.vqa.images import batch_images
from vla.data.vqa.processor import VQAProcessor
from vla.models.vlms import nanovlm_generation
from vla.models.vlms.generation import OnToken, Sampling
from vla.models.vlms.nanovlm import NanoVLM
from vla.prompting import ROLES, PromptBuilder
from vla.serving.vlm import VLM, Picture, Prompt, read_picture
from vla.training.precision import autocast_context


class Dialogue(PromptBuilder):
    """What was asked and answered so far; the processor writes it."""

    def _human(self, message: str) -> str:
        return message

    def _answer(self, message: str) -> str:
        return message

    def split(self) -> tuple[str, list[Turn]]:
        """The question that is open, and the turns before it.

        Raises:
            ValueError: nothing was asked.
        """
        turns = self.turns
        if len(turns) % 2 == 0:
            raise ValueError(f"a dialogue to be continued ends with what {ROLES[0]!r} says")
        return turns[-1], list(zip(turns[:-1:2], turns[1::2], strict=True))


class NanoVLMSession(VLM):
    """A nanoVLM with its processor; used like `VLM`. A prompt that is a text is a question; it may be about a list of
    pictures in the place of one.

    Args:
        model: in evaluation mode, on `device`.
        processor: of its training.
        device: where it computes.
        precision: fp32 | bf16 | fp16 in which it computes.
    """

    model: Any
    processor: Any
    sees_several_pictures = True

    def __init__(self, model: NanoVLM, processor: VQAProcessor, device: str = "cpu", precision: str = "fp32") -> None:
        self.model, self.processor, self.device, self.precision = model, processor, device, precision

    def get_prompt_builder(self, system_prompt: str | None = None) -> PromptBuilder:
        """A new dialogue; nanoVLM has no place for a system prompt, which is left out."""
        return Dialogue()

    def _generate(
        self, images: Sequence[Picture | None], prompts: Sequence[Prompt], on_token: OnToken | None, **sampling: Any
    ) -> tuple[list[str], Tensor]:
        settings, processor = Sampling(**sampling), self.processor
        pictures = [[read_picture(picture) for picture in _listed(image)] for image in images]
        grids = [[processor.grid(picture) for picture in row] for row in pictures]
        rows = []
        for prompt, row in zip(prompts, grids, strict=True):
            question, before = prompt.split() if isinstance(prompt, Dialogue) else (str(prompt), [])
            rows.append(processor.prompt_ids(question, row, before))
        ids, mask = pad_left(rows, processor.pad_id)
        places = torch.zeros_like(mask)
        for number, (row, grid) in enumerate(zip(rows, grids, strict=True)):
            places[number, ids.shape[1] - len(row) :] = torch.from_numpy(processor.image_mask(row, grid))
        pixels = batch_images(
            [processor.image(picture) for row in pictures for picture in row], processor.tiling.tile,
            whole=processor.whole,
        )  # fmt: skip
        choose = _Choice(settings, processor.end_id)
        with autocast_context(self.precision, self.device):
            tokens = nanovlm_generation.generate(
                self.model, ids.to(self.device),
                processor.pixels({name: value.to(self.device) for name, value in pixels.items()}),
                places.to(self.device), mask.to(self.device), max_new_tokens=settings.max_new_tokens,
                sampling=choose, end_id=processor.end_id,
                on_token=None if on_token is None else lambda token: on_token(_told(token, processor.end_id)),
            )  # fmt: skip
        assert choose.first is not None
        return [processor.decode(row) for row in tokens.tolist()], choose.first


def _listed(image: Any) -> Sequence[Picture]:
    if image is None:
        return []
    return image if isinstance(image, list | tuple) else [image]


class _Choice:
    """nanoVLM's way to choose a token, with the settings of all vision-language models; keeps the first scores."""

    def __init__(self, settings: Sampling, end_id: int) -> None:
        generator = torch.Generator().manual_seed(settings.seed)
        self._choose = nanovlm_generation.Sampling(
            greedy=settings.temperature == 0, top_k=0, top_p=settings.top_p, temperature=settings.temperature or 1.0,
            generator=generator,
        )  # fmt: skip
        self._least, self._end_id, self._count = settings.min_new_tokens, end_id, 0
        self.first: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        scores = logits.float().cpu()
        if self.first is None:
            self.first = scores.clone()
        if self._count < self._least:
            scores[:, self._end_id] = -torch.inf
        self._count += 1
        return self._choose(scores).to(logits.device)


def _told(token: Tensor, end_id: int) -> list[int | None]:
    return [None if number == end_id else number for number in token.tolist()]
