"""The LanguageProcessor: from pictures and dialogues to what a vision-language model sees; saved with it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vla.batches import IGNORE_INDEX
from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.vision import PixelTransform
from vla.data.language.image_transforms import Pixels, square_images
from vla.errors import UserError
from vla.prompting import PROMPT_BUILDERS, PromptBuilder, get_prompt_builder
from vla.tokenization import (
    add_pad_token,
    encode,
    first_id,
    get_tokenizer,
    marks_words,
    pad_id,
    tokenizer_source,
)

PROCESSOR_FILE = "processor.json"
TOKENIZER_FOLDER = "tokenizer"
KIND = "language"
FORMAT = 1


@dataclass(frozen=True)
class LanguageProcessor:
    """One value that training, evaluation and serving share: image transforms, prompt format and tokenizer.

    Args:
        config: how images are made square, and how long sequences may be.
        transforms: by tower, what its images look like.
        prompt: format of dialogues, a key of `vla.prompting.PROMPT_BUILDERS`.
        num_image_tokens: tokens that an image adds to a sequence.
        tokenizer: of Hugging Face, with a padding token.

    Raises:
        UserError: the tokenizer has no token to begin a sequence with, or the format takes no system prompt.
    """

    config: LanguageProcessorConfig
    transforms: dict[str, PixelTransform] = field(hash=False)
    prompt: str
    num_image_tokens: int
    tokenizer: Any = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        first_id(self.tokenizer)
        if self.config.system_prompt and not PROMPT_BUILDERS[self.prompt].takes_system_prompt:
            raise UserError(
                f"model.processor.system_prompt: the prompt format '{self.prompt}' of this language model has no place "
                f"for one; leave it out, got {self.config.system_prompt!r}"
            )

    @classmethod
    def from_config(cls, model_config: Any) -> "LanguageProcessor":
        """The Processor of a new run.

        Args:
            model_config: of a vision-language model: its `processor`, `vision_backbone`, `llm_backbone` and
                `pretrained`.

        Raises:
            UserError: the language model's tokenizer can't be had.
        """
        llm, vision = model_config.llm_backbone, model_config.vision_backbone
        source = tokenizer_source(llm.tokenizer, llm.weights, pretrained=model_config.pretrained)
        tokenizer = add_pad_token(get_tokenizer(source, "model.llm_backbone.tokenizer"), llm.pad_token)
        return cls(model_config.processor, vision.transforms, llm.prompt, vision.num_patches, tokenizer)

    # --- images ---

    def image(self, image: Image.Image) -> dict[str, Pixels]:
        """A picture as every tower takes it, before `pixels`: uint8 [3, S, S] by tower."""
        return square_images(image, self.transforms, self.config.image_resize_strategy)

    def pixels(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """Images by tower, uint8 [..., 3, S, S], to what the towers take, float32, on the images' own device."""
        normalized = {}
        for tower, transform in self.transforms.items():
            values = images[tower].to(torch.float32, memory_format=torch.contiguous_format).div_(255)
            mean, std = (values.new_tensor(numbers)[:, None, None] for numbers in (transform.mean, transform.std))
            normalized[tower] = values.sub_(mean).div_(std)
        return normalized

    # --- text ---

    @property
    def pad_id(self) -> int:
        """The id that rows are filled up with."""
        return pad_id(self.tokenizer)

    def prompt_builder(self) -> PromptBuilder:
        """A new dialogue in the model's format."""
        beginning = self.tokenizer.bos_token or self.tokenizer.eos_token
        return get_prompt_builder(
            self.prompt, self.config.system_prompt, bos=beginning, eos=self.tokenizer.eos_token
        )  # fmt: skip

    def tokenize_caption(self, caption: str) -> tuple[list[int], list[int]]:
        """A text that the model learns to say about an image without being asked.

        Returns:
            Token ids, at most `max_length`, and labels: the same but for the first token, which is given.
        """
        ids = encode(self.tokenizer, f"{caption.strip()}{self.tokenizer.eos_token or ''}", first=True)
        ids = ids[: self.config.max_length]
        return ids, [IGNORE_INDEX, *ids[1:]]

    def tokenize_dialogue(self, turns: Sequence[tuple[str, str]]) -> tuple[list[int], list[int]]:
        """A dialogue whose answers are learned.

        Args:
            turns: (role, message), "human" and "gpt" in turn.

        Returns:
            Token ids, at most `max_length`, and labels: the ids of answers, IGNORE_INDEX elsewhere. Both may end
            inside a turn.

        Raises:
            ValueError: the roles don't take turns.
        """
        builder = self.prompt_builder()
        for role, message in turns:
            builder.add_turn(role, message)
        ids: list[int] = []
        labels: list[int] = []
        for number, piece in enumerate(self._pieces(builder)):
            labels += piece if number % 2 else [IGNORE_INDEX] * len(piece)
            ids += piece
        return ids[: self.config.max_length], labels[: self.config.max_length]

    def prompt_ids(self, prompt: str | PromptBuilder) -> list[int]:
        """Token ids of a prompt that the model is to continue.

        Args:
            prompt: a text (as published), or a dialogue, whose turns are tokenised one by one like in training. The
                two differ where a tokenizer joins what stands at the border of two turns.
        """
        if isinstance(prompt, str):
            return encode(self.tokenizer, prompt, first=True)
        return [token for piece in self._pieces(prompt) for token in piece]

    def _pieces(self, builder: PromptBuilder) -> list[list[int]]:
        """Token ids of every turn, as in training.

        A turn's trailing space goes, but for phi-2's: there the released weights were trained with it. (As published,
        the tokenizer's class decides. Llama's makes a token of its own of the space, which must not be; the others,
        but for phi-2's, were refused.)
        """
        keep = builder.keeps_trailing_space and not self._marks_words
        texts = [turn if keep else turn.rstrip() for turn in builder.turns]
        return [encode(self.tokenizer, text, first=number == 0) for number, text in enumerate(texts)]

    @cached_property
    def _marks_words(self) -> bool:
        return marks_words(self.tokenizer)

    # --- saving ---

    @cached_property
    def tokenizer_hash(self) -> str:
        """SHA-256 of the tokenizer's texts and their ids."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    def contract(self) -> dict[str, Any]:
        """Everything that both sides of a model must agree on, as a plain dict for JSON."""
        transforms = {tower: asdict(transform) for tower, transform in self.transforms.items()}
        return {
            "format": FORMAT,
            "kind": KIND,
            "config": asdict(self.config),
            "transforms": json.loads(json.dumps(transforms)),
            "prompt": self.prompt,
            "num_image_tokens": self.num_image_tokens,
            "tokenizer": {"tokens": len(self.tokenizer), "pad_id": self.pad_id, "hash": self.tokenizer_hash},
        }

    def save(self, folder: Path) -> Path:
        """Write `processor.json` and `tokenizer/` into `folder`; returns the path of the first."""
        path = folder / PROCESSOR_FILE
        path.write_text(json.dumps(self.contract(), indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(str(folder / TOKENIZER_FOLDER))
        return path

    @classmethod
    def load(cls, folder: Path) -> "LanguageProcessor":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no `processor.json` in `folder`.
            ValueError: it isn't one of a vision-language model, or its tokenizer is missing or another.
        """
        path = folder / PROCESSOR_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (values["format"], values["kind"]) != (FORMAT, KIND):
                raise ValueError(f"format {values['format']}, expected {FORMAT}")
            tokenizer = get_tokenizer(str(folder / TOKENIZER_FOLDER), "model.llm_backbone.tokenizer")
            tokenizer.padding_side = "right"
            transforms = {
                tower: PixelTransform(item["size"], tuple(item["mean"]), tuple(item["std"]))
                for tower, item in values["transforms"].items()
            }
            config = LanguageProcessorConfig(**values["config"])
            processor = cls(config, transforms, values["prompt"], values["num_image_tokens"], tokenizer)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a language processor file ({error})") from error
        if processor.tokenizer_hash != values["tokenizer"]["hash"]:
            raise UserError(f"{folder / TOKENIZER_FOLDER}: the tokenizer was changed after it was saved (hash differs)")
        return processor
