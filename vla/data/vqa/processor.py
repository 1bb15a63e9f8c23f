"""The VQAProcessor: from pictures and dialogues to what a nanoVLM sees; saved with it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vla.batches import IGNORE_INDEX
from vla.conf.models.nanovlm import VQAProcessorConfig
from vla.conf.models.nanovlm_published import IMAGE_TOKEN, extra_tokens
from vla.conf.models.vision import PixelTransform
from vla.data.vqa.dialogues import Turn, chatml, head_of, image_string, message, question_answer
from vla.data.vqa.images import Pixels, cut_into_tiles, image_size, load_image
from vla.data.vqa.tiling import Grid, Tiling, num_tiles
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.tokenization import get_tokenizer, tokenizer_source

overwatch = initialize_overwatch(__name__)

PROCESSOR_FILE, TOKENIZER_FOLDER = "processor.json", "tokenizer"
KIND = "vqa"
FORMAT = 1
_FIELD = "model.llm_backbone.tokenizer"
_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class VQAProcessor:
    """
    One value that training, evaluation and serving share: how pictures are cut, prompt format and tokenizer.

    Args:
        config: how pictures are announced and how large they are made.
        transforms: by tower, what its tiles look like; all of one size.
        tokens_per_tile: tokens that a tile becomes.
        vocab_size: rows of the model's token table.
        tokenizer: of Hugging Face; the tokens that announce pictures are added to it.

    Raises:
        UserError: the tokenizer has more ids than the model, or no token that ends a text.
    """

    config: VQAProcessorConfig
    transforms: dict[str, PixelTransform] = field(hash=False)
    tokens_per_tile: int
    vocab_size: int
    tokenizer: Any = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        tokens = list(extra_tokens(self.config.image_tokens).values())
        if self.config.prompt == "chatml":
            known = self.tokenizer.get_vocab()
            tokens += [token for token in _CHATML_TOKENS if token not in known]
        self.tokenizer.add_tokens(tokens, special_tokens=True)
        if len(self.tokenizer) > self.vocab_size:
            raise UserError(
                f"{_FIELD}: has {len(self.tokenizer)} ids with those for pictures and turns, but the model's "
                f"vocabulary is {self.vocab_size}; pass --model.llm_backbone.num_extra_tokens"
            )
        if self.tokenizer.eos_token is None:
            raise UserError(f"{_FIELD}: has no token that ends a text (eos)")

    @classmethod
    def from_config(cls, model_config: Any) -> "VQAProcessor":
        """
        The Processor of a new run.

        Args:
            model_config: a `NanoVLMConfig`.

        Raises:
            UserError: the language model's tokenizer can't be had, or has too many ids.
        """
        llm = model_config.llm_backbone
        names = llm.tokenizer, llm.weights or model_config.weights
        tokenizer = get_tokenizer(tokenizer_source(*names, pretrained=model_config.pretrained), _FIELD)
        return cls(
            model_config.processor, model_config.vision_backbone.transforms, model_config.tokens_per_tile,
            llm.vocab_size + llm.num_extra_tokens, tokenizer,
        )  # fmt: skip

    # --- pictures ---

    @cached_property
    def tiling(self) -> Tiling:
        """How pictures are cut."""
        size = next(iter(self.transforms.values())).size
        return Tiling(size, self.config.max_image_side, self.config.resize_to_max)

    @property
    def whole(self) -> bool:
        """Whether a picture of several tiles is also one tile, before them."""
        return self.config.image_tokens == "global-grid"

    def grid(self, picture: Any) -> Grid:
        """Rows and columns of a picture's tiles, from its header; see `vla.data.vqa.images.open_image`."""
        return self.tiling.grid(*image_size(picture))

    def image(self, picture: Any) -> Pixels:
        """A picture as a worker gives it, uint8 [3, R * S, C * S]; see `vla.data.vqa.images.open_image`."""
        return load_image(picture, self.tiling)

    def pixels(self, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pictures by grid (see `batch_images`) to normalised tiles float32 [N, 3, S, S] by tower, on their device."""
        tiles = cut_into_tiles(pictures, self.tiling.tile, whole=self.whole)
        normalized = {}
        for tower, transform in self.transforms.items():
            mean, std = (tiles.new_tensor(numbers)[:, None, None] for numbers in (transform.mean, transform.std))
            normalized[tower] = (tiles - mean) / std
        return normalized

    # --- text ---

    @property
    def pad_id(self) -> int:
        """The id that rows are filled up with, and that ends a text."""
        return self.end_id

    @cached_property
    def end_id(self) -> int:
        """The id that ends an answer."""
        return int(self.tokenizer.eos_token_id if self._ends_itself else self._id("<|im_end|>"))

    @cached_property
    def _ends_itself(self) -> bool:
        return self.config.prompt != "chatml"

    @cached_property
    def _image_id(self) -> int | None:
        return None if self.config.image_tokens == "none" else self._id(IMAGE_TOKEN)

    def _id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with special tokens where the text has them and nowhere else."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def tokenize(self, turns: Sequence[Turn], grids: Sequence[Grid]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """
        A dialogue whose answers are learned.

        Args:
            turns: what is asked and answered; image tokens written in them are left out.
            grids: of the pictures that it is about, in front of the first question.

        Returns:
            Ids and labels int64 [L]; a label is its place's own id, or IGNORE_INDEX. Never is one at the first place.
        """
        clean = [(self._without_image_tokens(asked), self._without_image_tokens(answer)) for asked, answer in turns]
        images = self._image_string(grids)
        if self.config.prompt == "chatml":
            ids, labels = chatml(clean, images, self.encode)
        else:
            ids, labels = question_answer(clean, images, self.encode, self.tokenizer.eos_token)
        front = self._embeddings_in_front(grids)
        ids, labels = [self.pad_id] * front + ids, [IGNORE_INDEX] * front + labels
        if labels:
            labels[0] = IGNORE_INDEX
        return np.array(ids, dtype=np.int64), np.array(labels, dtype=np.int64)

    def prompt_ids(self, question: str, grids: Sequence[Grid], before: Sequence[Turn] = ()) -> NDArray[np.int64]:
        """Ids int64 [L] that the model continues with an answer to `question`, after the turns `before` it."""
        turns, images = list(before), self._image_string(grids)
        ids = self.tokenize(turns, grids)[0].tolist() if turns else [self.pad_id] * self._embeddings_in_front(grids)
        asked = ("" if turns else images) + self._without_image_tokens(question)
        if self.config.prompt == "chatml":
            ids += self.encode(message("user", asked)) + self.encode(head_of("assistant"))
        else:
            prefix = "" if turns else images
            ids += self.encode(f"{prefix}Question: {self._without_image_tokens(question)} Answer:")
        return np.array(ids, dtype=np.int64)

    def image_mask(self, ids: NDArray[np.int64], grids: Sequence[Grid]) -> NDArray[np.bool_]:
        """bool [L], where the embeddings of tiles stand in the ids of a dialogue about pictures of these grids."""
        if self._image_id is not None:
            return ids == self._image_id
        return np.arange(len(ids)) < self._embeddings_in_front(grids)

    def num_image_places(self, grids: Sequence[Grid]) -> int:
        """Embeddings that pictures of these grids become."""
        return self.tokens_per_tile * sum(num_tiles(grid, whole=self.whole) for grid in grids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, up to the token that ends it."""
        numbers = [int(number) for number in ids]
        end = numbers.index(self.end_id) if self.end_id in numbers else len(numbers)
        return str(self.tokenizer.decode(numbers[:end], skip_special_tokens=True)).strip()

    def _embeddings_in_front(self, grids: Sequence[Grid]) -> int:
        return self.num_image_places(grids) if self.config.image_tokens == "none" else 0

    def _image_string(self, grids: Sequence[Grid]) -> str:
        if self.config.image_tokens == "none" or not grids:
            return ""
        return image_string(grids, self.tokens_per_tile, self.config.image_tokens)

    def _without_image_tokens(self, text: str) -> str:
        if self._image_id is None or IMAGE_TOKEN not in text:
            return text
        overwatch.warning(f"a text with the token {IMAGE_TOKEN}, which is left out: {text[:60]!r}")
        return text.replace(IMAGE_TOKEN, "")

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
            "tokens_per_tile": self.tokens_per_tile,
            "vocab_size": self.vocab_size,
            "tokenizer": {"tokens": len(self.tokenizer), "end_id": self.end_id, "hash": self.tokenizer_hash},
        }

    def save(self, folder: Path) -> Path:
        """Write `processor.json` and `tokenizer/` into `folder`; returns the path of the first."""
        path = folder / PROCESSOR_FILE
        path.write_text(json.dumps(self.contract(), indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(str(folder / TOKENIZER_FOLDER))
        return path

    @classmethod
    def load(cls, folder: Path) -> "VQAProcessor":
        """
        Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no `processor.json` in `folder`.
            ValueError: it isn't one of a nanoVLM, or its tokenizer is missing or another.
        """
        path = folder / PROCESSOR_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (values["format"], values["kind"]) != (FORMAT, KIND):
                raise ValueError(f"format {values['format']}, expected {FORMAT}")
            transforms = {
                tower: PixelTransform(item["size"], tuple(item["mean"]), tuple(item["std"]))
                for tower, item in values["transforms"].items()
            }
            tokenizer = get_tokenizer(str(folder / TOKENIZER_FOLDER), _FIELD)
            config = VQAProcessorConfig(**values["config"])
            processor = cls(config, transforms, values["tokens_per_tile"], values["vocab_size"], tokenizer)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not the processor file of a nanoVLM ({error})") from error
        if processor.tokenizer_hash != values["tokenizer"]["hash"]:
            raise UserError(f"{folder / TOKENIZER_FOLDER}: the tokenizer was changed after it was saved (hash differs)")
        return processor
