"""From a dataset's item to a sample: first its tokens, from texts and the pictures' headers; the pixels when needed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vla.conf.vqa_datasets import RatingsConfig
from vla.data.errors import one_line
from vla.data.packing.packer import Admission, Size
from vla.data.pictures import UNREADABLE
from vla.data.vqa.collator import Sample
from vla.data.vqa.dialogues import kept_turns
from vla.data.vqa.processor import VQAProcessor

BAD, NO_TURNS, TOO_LONG, TOO_MANY_IMAGES = "bad", "no_turns", "too_long", "too_many_images"


class LeftOut(Exception):  # noqa: N818 - it is no error
    """A sample that is not trained on, and why: `kind` is one of `bad`, `no_turns`, `too_long`, `too_many_images`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class SampleMaker:
    """
    Makes samples of items `{"images", "texts", "*_ratings"}`.

    Args:
        processor: tokens and pixels.
        ratings: the least that turns need to be kept.
        admission: which samples fit into packs.
    """

    processor: VQAProcessor
    ratings: RatingsConfig
    admission: Admission

    def outline(self, key: int, item: Any) -> tuple[Sample, Size]:
        """
        A sample without pixels, and what packing needs to know of it.

        Raises:
            LeftOut: it is not to be trained on.
        """
        try:
            turns = kept_turns(item, self.ratings)
            if "texts" not in item:
                raise LeftOut(NO_TURNS, f"has no 'texts', but {', '.join(map(str, item))}")
            if not turns:
                raise LeftOut(NO_TURNS, "no turn is good enough, or there is none")
            pictures = pictures_of(item)
            grids = [self.processor.grid(picture) for picture in pictures]
            ids, labels = self.processor.tokenize(turns, grids)
            sample = Sample(key, ids, labels, grids, pictures, [])
        except UNREADABLE as error:
            raise LeftOut(BAD, one_line(error)) from error
        size = self.admission.size(key, len(sample), len(pictures))
        if size is not None:
            return sample, size
        if len(pictures) > self.admission.max_images:
            raise LeftOut(TOO_MANY_IMAGES, f"has {len(pictures)} images, the most is {self.admission.max_images}")
        raise LeftOut(TOO_LONG, f"has {len(sample)} tokens, the most is {self.admission.max_length}")

    def with_pixels(self, sample: Sample) -> Sample:
        """
        The sample with its pictures read.

        Raises:
            LeftOut: one of them can't be read.
        """
        try:
            images = [self.processor.image(picture) for picture in sample.pictures]
            grids = [self.processor.tiling.grid(*image.shape[1:]) for image in images]
            if grids != sample.grids:
                raise ValueError("it is of another size than its header says")
            return replace(sample, images=images)
        except UNREADABLE as error:
            raise LeftOut(BAD, f"a picture can't be read: {one_line(error)}") from error


def pictures_of(item: Mapping[str, Any]) -> list[Any]:
    """The pictures of an item: a list `images`, or one `image`; those that are None are passed over."""
    images = item.get("images")
    if images is None:
        images = item.get("image")
    pictures = images if isinstance(images, list | tuple) else [images]
    return [picture for picture in pictures if picture is not None]
