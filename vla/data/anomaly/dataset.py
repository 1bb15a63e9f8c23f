"""MVTecADDataset: pictures with masks, squeezed to the size that the model sees."""

from collections import Counter, OrderedDict
from operator import index as as_index
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vla.conf.datasets import MVTecADConfig
from vla.conf.models.uniad import UniADConfig
from vla.data.anomaly.collator import AUGMENTATIONS, AnomalyCollator
from vla.data.anomaly.index import PictureRef, image_folder, read_index
from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.datasets.base import Datasets
from vla.data.errors import BadData, one_line
from vla.data.pictures import UNREADABLE
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)


class MVTecADDataset:
    """Pictures of one split.

    Args:
        folder: that the pictures' files are below.
        pictures: at least one.
        processor: says what the model sees.
        cache_bytes: of squeezed pictures that each reading process keeps.
        augmentations: of `AUGMENTATIONS`, done to this split's pictures by the collator.
    """

    def __init__(
        self, folder: Path, pictures: list[PictureRef], processor: AnomalyProcessor, cache_bytes: int = 0,
        augmentations: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.folder, self.pictures, self._processor = folder, pictures, processor
        self._augmentations = augmentations
        self.augments = bool(augmentations)  # features of such pictures are of no use for another epoch
        self.images_needed = True  # false: features of all of them are kept, the files can stay where they are
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached, self._cache_bytes = 0, cache_bytes

    @classmethod
    def build(cls, config: MVTecADConfig, model_config: UniADConfig, processor: AnomalyProcessor | None) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors.

        What is held out is the test split, as published.
        """
        processor = processor or AnomalyProcessor(model_config.processor)
        folder = image_folder(config)
        train, test = (read_index(config, split) for split in ("train", "test"))
        cache_bytes = config.image_cache_mb * 2**20
        augmentations = tuple(name for name in AUGMENTATIONS if getattr(config, name))
        height, width = processor.config.input_size
        if config.rotate and height != width:
            raise UserError(f"dataset.rotate: needs square pictures, model.processor.input_size is {height} x {width}")
        training = cls(folder, train, processor, cache_bytes, augmentations)
        validation = cls(folder, test, processor, cache_bytes)
        _report(config, train, test)
        return Datasets(train=training, validation=validation, collator=AnomalyCollator(), processor=processor)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample `index`: `image` uint8 [3, H, W], `mask` bool [H, W], `label`, `class_name`, `file`, `augment`.

        Raises:
            IndexError: there is no such sample.
            BadData: a file can't be read.
        """
        index = as_index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index}: there are {len(self)}")
        picture = self.pictures[index]
        height, width = self._processor.config.input_size
        return {
            "image": self.picture(index) if self.images_needed else np.empty((3, 0, 0), dtype=np.uint8),
            "mask": self._mask(picture, (height, width)),
            "label": picture.label,
            "class_name": picture.class_name,
            "file": picture.file,
            "augment": self._augmentations,
        }

    def picture(self, index: int) -> np.ndarray:
        """The picture of sample `index` as the model sees it, before normalisation: uint8 [3, H, W].

        Raises:
            BadData: it can't be read.
        """
        if index in self._cache:
            return self._cache[index]
        picture = self._processor.picture(self._open(self.pictures[index].file))
        if self._cached + picture.nbytes <= self._cache_bytes:
            self._cache[index] = picture
            self._cached += picture.nbytes
        return picture

    def _mask(self, picture: PictureRef, size: tuple[int, int]) -> np.ndarray:
        if picture.mask is None:  # a defect without a mask is everywhere, as published
            return np.full(size, bool(picture.label))
        return self._processor.mask(self._open(picture.mask))

    def _open(self, file: str) -> Image.Image:
        try:
            with Image.open(self.folder / file) as image:
                image.load()
                return image
        except UNREADABLE as error:
            raise BadData(f"{file}: can't be read: {one_line(error)}") from error

    def sample_label(self, index: int) -> str:
        """The file of sample `index`."""
        return self.pictures[index].file

    def locate(self, index: int) -> tuple[str, int, int]:
        """A hash of the file that sample `index` is of, its number there, and how many samples the file gives."""
        return self.pictures[as_index(index)].content, 0, 1


def _report(config: MVTecADConfig, train: list[PictureRef], test: list[PictureRef]) -> None:
    name = type(config).dataset_id or str(config.root)
    classes = {picture.class_name for picture in train}
    bad = sum(picture.label for picture in test)
    overwatch.info(
        f"{name}: {len(train):,} pictures of {len(classes)} classes; held out: {len(test) - bad:,} good ones and "
        f"{bad:,} of defects"
    )
    learned = sum(picture.label for picture in train)
    if learned:
        overwatch.warning(f"{learned} training pictures are said to show defects; they are learned as normal")
    without = sum(picture.label and picture.mask is None for picture in test)
    if without:
        overwatch.warning(f"{without} pictures of defects have no mask; all of their pixels count as defective")
    unseen = Counter(picture.class_name for picture in test if picture.class_name not in classes)
    if unseen:
        overwatch.warning(f"held out, but never trained on: {', '.join(sorted(unseen))}")
