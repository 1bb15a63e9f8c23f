"""Results by class: what is collected while pictures come by in any order, in any process, and what it amounts to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vla.evaluation.anomaly.ranking import area, auroc, average_precision, f1_max, rank
from vla.evaluation.anomaly.regions import region_weights
from vla.evaluation.anomaly.scores import KINDS, image_scores
from vla.overwatch.distributed import DistState, gather_objects

FALSE_POSITIVE_LIMIT = 0.3  # of AUPRO, as MVTec has it
METRICS = (
    *(f"image_auroc_{kind}" for kind in KINDS),
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pixel_aupro",
)


class Picture(NamedTuple):
    """What is kept of a picture."""

    sample: int
    values: NDArray[np.float32]  # [H * W], its map
    mask: bytes  # of bits, row by row
    label: int  # as the data says
    scores: dict[str, float]


@dataclass(frozen=True)
class ClassResult:
    """Metrics of a class; None for what its pictures can't tell."""

    name: str
    num_good: int
    num_bad: int  # pictures with a defective pixel
    values: dict[str, float | None]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AnomalyMetrics:
    """Metrics of all classes."""

    classes: list[ClassResult]

    @property
    def means(self) -> dict[str, float]:
        """Unweighted mean of each metric over the classes that have it; metrics that none has are left out."""
        found = {name: [row.values[name] for row in self.classes if row.values[name] is not None] for name in METRICS}
        return {name: float(np.mean(values)) for name, values in found.items() if values}  # type: ignore[arg-type]

    @property
    def notes(self) -> list[str]:
        """What has to be known about the numbers, a sentence each."""
        return [note for row in self.classes for note in row.notes]


class AnomalyResults:
    """
    Collects maps and masks, and computes metrics class by class. Memory: four bytes and a bit for every pixel that this
    process has seen, and for a moment those of one class of all processes.

    The metrics are the same bits whatever the number of processes, and however the pictures are dealt to them.

    Args:
        pool: window of the image score `max`.
        image_score: of `KINDS`: which one average precision and F1 of pictures are of.
    """

    def __init__(self, pool: Sequence[int], image_score: str = "max") -> None:
        self._pool, self._image_score = tuple(pool), image_score
        self._pictures: dict[str, dict[int, Picture]] = {}  # by class, then sample
        self._shape: tuple[int, ...] = ()  # of a map; empty as long as this process has seen none

    def add(
        self, samples: Tensor, classes: Sequence[str], maps: Tensor, masks: Tensor, labels: Tensor, is_real: Tensor
    ) -> dict[str, Tensor]:
        """
        Take in a batch.

        Args:
            samples: int64 [B], numbers of the pictures in their dataset; one that was there before is replaced.
            classes: of the pictures.
            maps: float32 [B, H, W].
            masks: bool [B, H, W].
            labels: int64 [B], 1 for pictures that are said to show a defect.
            is_real: bool [B]; others are passed over.

        Returns:
            Scores of the pictures, float32 [B] by name.
        """
        scores = {kind: values.cpu() for kind, values in image_scores(maps, self._pool).items()}
        values = maps.float().flatten(1).cpu().numpy()
        bits = np.packbits(masks.flatten(1).cpu().numpy(), axis=1)
        self._shape = tuple(maps.shape[1:])
        for row, (sample, class_name) in enumerate(zip(samples.tolist(), classes, strict=True)):
            if is_real[row]:
                self._pictures.setdefault(class_name, {})[sample] = Picture(
                    sample, values[row].copy(), bits[row].tobytes(), int(labels[row]),
                    {kind: float(scores[kind][row]) for kind in KINDS},
                )  # fmt: skip
        return scores

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of the maps; empty as long as this process has seen none."""
        return self._shape

    def pictures(self, class_name: str) -> list[Picture]:
        """What this process has seen of a class, in the order of the data."""
        found = self._pictures.get(class_name, {})
        return [found[sample] for sample in sorted(found)]

    def compute(self, dist: DistState) -> AnomalyMetrics:
        """Metrics over the pictures of all processes; all of them must call this."""
        found = gather_objects((sorted(self._pictures), self._shape), dist)
        names = sorted({name for names, _ in found for name in names})
        shape = max((shape for _, shape in found), default=())
        rows: dict[str, ClassResult] = {}
        for number, name in enumerate(names):
            parts = gather_objects(self._pictures.get(name, {}), dist)
            if number % dist.world_size == dist.rank:
                pictures = {sample: picture for part in parts for sample, picture in part.items()}
                ordered = [pictures[sample] for sample in sorted(pictures)]
                rows[name] = class_metrics(name, ordered, shape, self._image_score)
        merged = {name: row for part in gather_objects(rows, dist) for name, row in part.items()}
        return AnomalyMetrics([merged[name] for name in names])


def class_metrics(
    name: str, pictures: Sequence[Picture], shape: tuple[int, ...], image_score: str = "max"
) -> ClassResult:
    """Metrics of a class, from its pictures in the order of the data; `shape` is that of a map."""
    size = int(np.prod(shape))
    masks = [np.unpackbits(np.frombuffer(p.mask, np.uint8), count=size).astype(bool) for p in pictures]
    is_bad = np.array([mask.any() for mask in masks])  # as published: by what is left of the mask
    num_bad, num_good = int(is_bad.sum()), int((~is_bad).sum())
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    notes = _notes(name, pictures, is_bad)
    if not all(np.isfinite(picture.values).all() for picture in pictures):
        notes.append(f"{name}: maps are not finite, so there are no metrics")
        return ClassResult(name, num_good, num_bad, values, notes)
    if num_good and num_bad:
        scores = {kind: np.array([picture.scores[kind] for picture in pictures]) for kind in KINDS}
        rankings = {kind: rank(found[~is_bad], found[is_bad]) for kind, found in scores.items()}
        values |= {f"image_auroc_{kind}": auroc(ranking) for kind, ranking in rankings.items()}
        values["image_ap"] = average_precision(rankings[image_score])
        values["image_f1_max"] = f1_max(rankings[image_score])
    good = [picture.values[~mask] for picture, mask in zip(pictures, masks, strict=True)]
    if num_bad and any(len(part) for part in good):
        values |= _pixel_metrics(pictures, masks, is_bad, np.concatenate(good), shape)
    return ClassResult(name, num_good, num_bad, values, notes)


def _pixel_metrics(
    pictures: Sequence[Picture], masks: list[np.ndarray], is_bad: np.ndarray, good: np.ndarray, shape: tuple[int, ...]
) -> dict[str, float]:
    chosen = [(picture.values[mask], mask) for picture, mask, bad in zip(pictures, masks, is_bad, strict=True) if bad]
    bad = np.concatenate([values for values, _ in chosen])
    regions = [region_weights(mask.reshape(shape)) for _, mask in chosen]
    count = sum(number for _, number in regions)
    weights = np.concatenate([part for part, _ in regions]) / count
    ranking = rank(good, bad, weights)
    return {
        "pixel_auroc": auroc(ranking),
        "pixel_ap": average_precision(ranking),
        "pixel_f1_max": f1_max(ranking),
        "pixel_aupro": area(ranking, FALSE_POSITIVE_LIMIT),
    }


def _notes(name: str, pictures: Sequence[Picture], is_bad: np.ndarray) -> list[str]:
    notes = []
    if not is_bad.any():
        notes.append(f"{name}: no picture of a defect, so its metrics are left out of the means")
    elif is_bad.all():
        notes.append(f"{name}: no good picture, so its metrics of pictures are left out of the means")
    vanished = sum(picture.label and not bad for picture, bad in zip(pictures, is_bad, strict=True))
    if vanished:
        notes.append(f"{name}: {vanished} pictures of defects whose mask has no pixel left count as good")
    return notes
