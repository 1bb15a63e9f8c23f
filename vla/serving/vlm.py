"""Vision-language models at work: from pictures and prompts to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vla.conf.models import ModelConfig, PrismaticConfig
from vla.conf.models.nanovlm import NanoVLMConfig
from vla.conf.models.released import available_models
from vla.conf.registry import available, choices_text
from vla.data.errors import one_line
from vla.data.language.processor import LanguageProcessor
from vla.data.pictures import UNREADABLE
from vla.errors import UserError
from vla.models.vlms.generation import OnToken, Sampling
from vla.models.vlms.prismatic import PrismaticVLM
from vla.models.weights.nanovlm import is_published as is_nanovlm
from vla.models.weights.prismatic import (
    PrismaticRun,
    build_prismatic,
    download_prismatic_run,
    find_prismatic_run,
    is_prismatic_run,
)
from vla.prompting import PromptBuilder, get_prompt_builder
from vla.tokenization import encode
from vla.training.inference import load_for_inference
from vla.training.precision import DTYPES, autocast_context

Picture = Image.Image | str | Path
Prompt = str | PromptBuilder
OnText = Callable[[str], None]

_UNFINISHED = "\ufffd"  # what bytes decode to that are not a whole letter yet


class VLM:
    """A vision-language model with its processor.

    Args:
        model: in evaluation mode, on `device`.
        processor: of its training.
        device: where it computes.
        precision: fp32 | bf16 | fp16 in which it computes.

    Example:
        >>> vlm = vla.load("prism-dinosiglip+7b")
        >>> prompt = vlm.get_prompt_builder()
        >>> prompt.add_turn("human", "What is on the table?")
        >>> vlm.generate("kitchen.jpg", prompt, max_new_tokens=32)
    """

    sees_several_pictures = False  # whether a list of pictures may stand in the place of one

    def __init__(
        self, model: PrismaticVLM, processor: LanguageProcessor, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        self.model, self.processor, self.device, self.precision = model, processor, device, precision

    def get_prompt_builder(self, system_prompt: str | None = None) -> PromptBuilder:
        """A new dialogue in the model's format; None: the system prompt that it was trained with."""
        builder = self.processor.prompt_builder()
        if system_prompt is None:
            return builder
        return get_prompt_builder(self.processor.prompt, system_prompt, bos=builder.bos, eos=builder.eos)

    def generate(self, image: Picture | None, prompt: Prompt, *, on_text: OnText | None = None, **sampling: Any) -> str:
        """Continue a prompt about a picture.

        Args:
            image: a picture or its path; None: there is none.
            prompt: a text, or a dialogue that a human has spoken last in.
            on_text: called with every piece of text as soon as it is there.
            sampling: fields of `Sampling`: max_new_tokens, temperature, ...

        Returns:
            What the model says, without white space around it.

        Raises:
            UserError: the picture can't be read.
        """
        on_token = None if on_text is None else _Streaming(self.processor.tokenizer, on_text)
        (text,), _ = self._generate([image], [prompt], on_token, **sampling)
        return text

    def generate_batch(
        self, images: Sequence[Picture | None], prompts: Sequence[Prompt], *,
        return_string_probabilities: Sequence[str] | None = None, **sampling: Any,
    ) -> list[str] | tuple[list[str], list[list[float]]]:  # fmt: skip
        """Continue several prompts at once; each gives what it would give alone.

        Args:
            images: one per prompt.
            prompts: as for `generate`.
            return_string_probabilities: answers of one token each, such as "Yes" and "No".
            sampling: fields of `Sampling`.

        Returns:
            The texts; with `return_string_probabilities` also, for each, how likely each answer is to be what the
            model says first, given that it is one of them.

        Raises:
            UserError: an answer is of several tokens, or there are not as many pictures as prompts.
        """
        if len(images) != len(prompts):
            raise UserError(f"images: must be {len(prompts)}, one per prompt, got {len(images)}")
        answers = [self._single_token(answer) for answer in return_string_probabilities or ()]
        texts, logits = self._generate(images, prompts, None, **sampling)
        if return_string_probabilities is None:
            return texts
        return texts, logits[:, answers].softmax(dim=-1).tolist()

    def _generate(
        self, images: Sequence[Picture | None], prompts: Sequence[Prompt], on_token: OnToken | None, **sampling: Any
    ) -> tuple[list[str], Tensor]:
        tokenizer = self.processor.tokenizer
        ids = [self.processor.prompt_ids(prompt) for prompt in prompts]
        with autocast_context(self.precision, self.device):
            generated = self.model.generate(
                ids, self._pixels(images), [image is not None for image in images], end_id=tokenizer.eos_token_id,
                sampling=Sampling(**sampling), on_token=on_token,
            )  # fmt: skip
        texts = [decode(tokenizer, tokens).strip() for tokens in generated.tokens]
        return texts, generated.first_logits

    def _pixels(self, images: Sequence[Picture | None]) -> dict[str, Tensor] | None:
        """Normalised images by tower, zeros where there is none; None if there are none at all."""
        seen = [None if image is None else self.processor.image(read_picture(image)) for image in images]
        first = next((views for views in seen if views is not None), None)
        if first is None:
            return None
        stacked = {
            tower: torch.stack(
                [torch.zeros(view.shape, dtype=torch.uint8) if v is None else torch.from_numpy(v[tower]) for v in seen]
            )
            for tower, view in first.items()
        }
        return self.processor.pixels({tower: views.to(self.device) for tower, views in stacked.items()})

    def _single_token(self, answer: str) -> int:
        ids = encode(self.processor.tokenizer, answer, first=False)
        if len(ids) != 1:
            raise UserError(f"return_string_probabilities: must be of one token each, {answer!r} is of {len(ids)}")
        return ids[0]


def read_picture(picture: Picture) -> Image.Image:
    """A picture in RGB.

    Raises:
        UserError: the file can't be read.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    try:
        with Image.open(picture) as opened:
            return opened.convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"image: {picture} can't be read ({one_line(error)})") from error


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of token ids; a model's padded vocabulary has some that its tokenizer knows no text for."""
    return tokenizer.decode([token for token in tokens if token < len(tokenizer)], skip_special_tokens=True)


class _Streaming:
    """Tells a listener the text that tokens stand for, as soon as its letters are whole."""

    def __init__(self, tokenizer: Any, on_text: OnText) -> None:
        self.tokenizer, self.on_text = tokenizer, on_text
        self._tokens: list[int] = []
        self._told = 0

    def __call__(self, tokens: list[int | None]) -> None:
        self._tokens += [token for token in tokens if token is not None]
        text = decode(self.tokenizer, self._tokens)
        if len(text) > self._told and not text.endswith(_UNFINISHED):
            self.on_text(text[self._told :])
            self._told = len(text)


def load(
    id_or_path: str | Path, *, device: str = "cpu", precision: str = "fp32", tokenizer: str | None = None,
    vision_weights: Mapping[str, str] | None = None,
) -> VLM:  # fmt: skip
    """Load a vision-language model.

    Args:
        id_or_path: an id of `vla.available_models()`, whose weights come from the Hugging Face cache or hub; a run or
            checkpoint folder of this toolkit; a run folder or `.pt` checkpoint of Prismatic's; or a folder in
            nanoVLM's published layout.
        device: where it computes.
        precision: fp32 | bf16 | fp16 in which it computes. Published weights are kept in it, too.
        tokenizer: for published weights, folder or Hugging Face id of the language model's tokenizer; None: of the
            repository that its weights came from.
        vision_weights: for published weights that leave out the vision backbone, local files by tower; None: from the
            Hugging Face cache or hub.

    Raises:
        UserError: there is no such model, or a part of it can't be had; one line that says what to pass.
    """
    path = Path(id_or_path).expanduser()
    if is_prismatic_run(path):
        return _published(find_prismatic_run(path), device, precision, tokenizer, vision_weights)
    if is_nanovlm(path):
        from vla.serving.importing import read_nanovlm
        from vla.serving.nanovlm import NanoVLMSession

        _, nano_processor, nano = read_nanovlm(path, tokenizer)
        return NanoVLMSession(nano.to(device).eval(), nano_processor, device, precision)  # type: ignore[arg-type]
    if path.exists():
        config, processor, model = load_for_inference(path, device)
        if isinstance(config.model, NanoVLMConfig):
            from vla.serving.nanovlm import NanoVLMSession

            return NanoVLMSession(model, processor, device, precision)  # type: ignore[arg-type]
        if not isinstance(config.model, PrismaticConfig) or not isinstance(model, PrismaticVLM):
            kind = type(config.model).model_id
            raise UserError(f"{path}: is a checkpoint of {kind}; what loads here is a vision-language model")
        return VLM(model, processor, device, precision)
    name = str(id_or_path)
    if name not in available_models():
        if name in available(ModelConfig):
            raise UserError(f"model: no weights were released of {name}; pass the folder of a run of it")
        raise UserError(f"model: there is no folder {name}, and an id {choices_text(name, list(available_models()))}")
    return _published(download_prismatic_run(name), device, precision, tokenizer, vision_weights)


def _published(
    run: PrismaticRun, device: str, precision: str, tokenizer: str | None, vision_weights: Mapping[str, str] | None
) -> VLM:
    config = run.config
    if tokenizer is not None:
        config = replace(config, llm_backbone=replace(config.llm_backbone, tokenizer=tokenizer))
    if vision_weights is not None:
        config = replace(config, vision_backbone=replace(config.vision_backbone, weights=dict(vision_weights)))
    try:  # quick to fail, where the model takes a while
        processor = LanguageProcessor.from_config(config)
    except UserError as error:
        raise UserError(f"{str(error).partition('; pass ')[0]}; pass tokenizer=DIR") from error
    model = build_prismatic(replace(run, config=config), DTYPES[precision])
    return VLM(model.to(device), processor, device, precision)
