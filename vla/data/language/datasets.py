"""Datasets in LLaVA's format: captions to align an image's tokens with language, dialogues to finetune."""

import hashlib
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vla.batches import IGNORE_INDEX
from vla.conf.datasets import LlavaConfig
from vla.conf.stage import Stage
from vla.data.datasets.base import Datasets
from vla.data.errors import BadExample, one_line
from vla.data.language.annotations import Row
from vla.data.language.collator import LanguageCollator
from vla.data.language.processor import LanguageProcessor
from vla.data.language.selection import Part, select_rows
from vla.data.pictures import UNREADABLE
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

_PLACES_PER_FILE = 1024  # images whose features are kept together


class LlavaDataset:
    """Rows of an annotation file as samples; base of the two below. A row and its image are read when asked for.

    Args:
        part: which rows, and where their images are.
        processor: turns images and dialogues into what the model sees.
        on_bad_example: what a row that turns out to be bad only now (a damaged image) does: error, or skip. A skipped
            one still comes, so that no other sample's place depends on it, but nothing of it is learned.
        skipped: one line for each row that was left out.
        use_images: false makes every row one of text alone.
    """

    def __init__(
        self, part: Part, processor: LanguageProcessor, on_bad_example: str = "error", skipped: list[str] | None = None,
        use_images: bool = True,
    ) -> None:  # fmt: skip
        self.annotations, self.rows, self.image_folder = part.annotations, part.rows, part.images
        self.processor = processor
        self.skipped = skipped or []
        self.use_images = use_images
        self.images_needed = True  # false: what is seen in them is kept (`vla.training.feature_store`)
        self._skip_bad = on_bad_example == "skip"
        self._complained: set[int] = set()  # samples found bad in this process

    @classmethod
    def build(
        cls, config: LlavaConfig, model_config: Any, processor: LanguageProcessor | None, stage: Stage = Stage.ALIGN
    ) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors."""
        found = select_rows(config, stage)
        processor = processor or LanguageProcessor.from_config(model_config)
        dataset_class = AlignDataset if stage is Stage.ALIGN else FinetuneDataset
        train, validation = (
            dataset_class(part, processor, config.on_bad_example, found.skipped, config.use_images) if part else None
            for part in (found.train, found.validation)
        )
        assert train is not None  # every stage has rows to train on
        return Datasets(train, validation, LanguageCollator(processor), processor)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample `index`: input_ids and labels int64 [L], pixel_values uint8 [3, S, S] by tower or None, is_multimodal.

        Raises:
            IndexError: there is no such sample.
            BadExample: its row or image can't be read.
        """
        number = self._row(index)
        try:
            return self._sample(number)
        except BadExample as error:
            if not self._skip_bad:
                raise
            self._complain(number, error)
            return self._blank(number)

    def sample_label(self, index: int) -> str:
        """Where sample `index` comes from: `"chat.json[17] 00001/000017.jpg"`."""
        row = self._row(index)
        return f"{self.annotations.label(row)} {self.annotations.image(row)}".rstrip()

    def modality_lengths(self) -> NDArray[np.int64]:
        """(whether it is about an image, length) of every sample, int64 [N, 2]; lengths are only for grouping."""
        is_multimodal = self.annotations.is_multimodal[self.rows] & self.use_images
        return np.stack([is_multimodal, self._lengths()[self.rows]], axis=1).astype(np.int64)

    def row(self, index: int) -> Row:
        """Sample `index` as its annotation file has it."""
        return self.annotations.read(self._row(index))

    def open_image(self, index: int) -> Image.Image | None:
        """The picture of sample `index`, RGB; None where it is about none.

        Raises:
            BadExample: it can't be read.
        """
        return self._open(self._row(index))

    def locate(self, index: int) -> tuple[str, int, int]:
        """A file for features of images, the row in it of sample `index`'s image, and the file's rows.

        The file's name depends on the images' paths, sizes and times; samples about one image share its row.
        """
        places, names, total = self._places
        group, row = divmod(int(places[self._row(index)]), _PLACES_PER_FILE)
        return names[group], row, min(_PLACES_PER_FILE, total - group * _PLACES_PER_FILE)

    def _tokens(self, row: Row) -> tuple[list[int], list[int]]:
        """Ids and labels of a row."""
        raise NotImplementedError

    def _lengths(self) -> NDArray[np.int32]:
        """Length of every row of the file."""
        raise NotImplementedError

    def _row(self, index: int) -> int:
        index = as_index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index}: there are {len(self)}")
        return int(self.rows[index])

    def _sample(self, number: int) -> dict[str, Any]:
        row = self.annotations.read(number)
        try:
            ids, labels = self._tokens(row)
        except (ValueError, TypeError) as error:  # text that is no text, such as half a surrogate pair
            raise BadExample(f"{self.annotations.path}[{number}]: can't be tokenised: {one_line(error)}") from error
        return self._assemble(ids, labels, self._pixels(number) if self._has_image(number) else None)

    def _has_image(self, number: int) -> bool:
        return self.use_images and bool(self.annotations.image(number))

    def _pixels(self, number: int) -> dict[str, Any]:
        if not self.images_needed:
            return {tower: np.zeros((3, 0, 0), np.uint8) for tower in self.processor.transforms}
        image = self._open(number)
        assert image is not None
        return self.processor.image(image)

    def _open(self, number: int) -> Image.Image | None:
        name = self.annotations.image(number)
        if not name:
            return None
        try:
            with Image.open(self.image_folder / name) as image:
                return image.convert("RGB")
        except UNREADABLE as error:
            path = f"{self.annotations.path}[{number}]"
            raise BadExample(f"{path}: image {self.image_folder / name} can't be read: {one_line(error)}") from error

    def _complain(self, number: int, error: BadExample) -> None:
        if number not in self._complained:
            self._complained.add(number)
            overwatch.warning(f"nothing is learned from {error} ({len(self._complained)} such in this process)")

    def _blank(self, number: int) -> dict[str, Any]:
        """What stands for a bad row: the shortest sample of its kind, with nothing to learn."""
        pixels = None
        if self._has_image(number):
            black = Image.new("RGB", (1, 1))
            pixels = self.processor.image(black) if self.images_needed else self._pixels(number)
        ids, _ = self.processor.tokenize_caption("")
        return self._assemble(ids, [IGNORE_INDEX] * len(ids), pixels)

    def _assemble(self, ids: list[int], labels: list[int], pixels: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "input_ids": np.array(ids, dtype=np.int64),
            "labels": np.array(labels, dtype=np.int64),
            "pixel_values": pixels,
            "is_multimodal": pixels is not None,
        }

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], list[str], int]:
        """By row of the file, the number of its image among all distinct ones; a name for each group; how many."""
        distinct, places = np.unique(np.array(self.annotations.images()), return_inverse=True)
        identities = [f"{name} {_stamp(self.image_folder / name)}" if name else "" for name in distinct.tolist()]
        groups = (
            "\n".join(identities[start : start + _PLACES_PER_FILE])
            for start in range(0, len(identities), _PLACES_PER_FILE)
        )
        return places.reshape(-1), [hashlib.sha256(group.encode()).hexdigest() for group in groups], len(distinct)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_places"}


class AlignDataset(LlavaDataset):
    """Images with a caption, which the model learns to say unasked; what the human says is not used."""

    def _tokens(self, row: Row) -> tuple[list[int], list[int]]:
        return self.processor.tokenize_caption(row["conversations"][1]["value"])

    def _lengths(self) -> NDArray[np.int32]:
        patches = self.processor.num_image_tokens
        return self.annotations.words_besides_image + patches * (self.annotations.is_multimodal & self.use_images)


class FinetuneDataset(LlavaDataset):
    """Dialogues, most of them about an image, whose answers the model learns."""

    def _tokens(self, row: Row) -> tuple[list[int], list[int]]:
        return self.processor.tokenize_dialogue([(turn["from"], turn["value"]) for turn in row["conversations"]])

    def _lengths(self) -> NDArray[np.int32]:
        return self.annotations.words


def _stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return "missing"
    return f"{state.st_size} {state.st_mtime_ns}"
