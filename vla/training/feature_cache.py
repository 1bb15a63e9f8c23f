"""What frozen module groups compute is computed once for an input and then reused."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.batches import Batch
from vla.conf.pretrain import PretrainConfig
from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.language.processor import LanguageProcessor
from vla.data.materialize import Datasets
from vla.models.base import BaseModel, FeatureSource
from vla.overwatch import initialize_overwatch
from vla.training.feature_store import Features, FeatureStore, fingerprint

overwatch = initialize_overwatch(__name__)

MAX_BYTES = 4 * 2**30  # host memory per process

Compute = Callable[[FeatureSource, Batch], Features]  # a batch of one sample, as loaded -> its features, each [1, ...]


def frozen_sources(model: BaseModel) -> dict[str, FeatureSource]:
    """By module group, the feature sources whose group is frozen."""
    return {name: source for name, source in model.feature_sources().items() if name in model.frozen_groups}


def take(batch: Batch, rows: list[int]) -> Batch:
    """The given samples of `batch`, in that order."""
    index = torch.tensor(rows)
    return replace(batch, **{item.name: _take(getattr(batch, item.name), rows, index) for item in fields(batch)})


def _take(value: Any, rows: list[int], index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index.to(value.device)]
    if isinstance(value, list):
        return [value[row] for row in rows]
    if isinstance(value, dict):
        return {key: _take(item, rows, index) for key, item in value.items()}
    return value


class FeatureCache:
    """Keeps features in host memory by the key that their source gives for a sample.

    Every sample is computed alone, so its features have the same bits whichever samples came with it in a batch:
    a run that resumes with an empty cache, or on another number of processes, goes on with the same numbers.
    What doesn't fit any more is computed anew each time.

    Args:
        sources: by module group.
        compute: runs a source (see `Compute`).
        agree: turns a number of this process into the largest of all processes. Where parameters are sharded all
            processes must compute together; None where each can compute alone.
        max_bytes: limit of the memory.
    """

    def __init__(
        self, sources: dict[str, FeatureSource], compute: Compute, agree: Callable[[int], int] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        self.sources = dict(sources)
        self.num_bytes = 0
        self.num_computed = 0
        self._compute, self._agree, self._max_bytes = compute, agree, max_bytes
        self._store: dict[Hashable, Features] = {}
        self._on_disk: dict[tuple[str, str], FeatureStore] = {}  # by scope and group

    def keep_on_disk(self, group: str, batch: Batch, folder: Path, datasets: Mapping[str, Any]) -> None:
        """Keep features of `group` in files instead of in memory; for a source whose keys are sample numbers.

        Args:
            group: of `sources`.
            batch: a few samples, to see what features look like.
            folder: see `FeatureStore`.
            datasets: by scope, those that can `locate` their samples; where all features are there already and nobody
                else looks at images, they are told not to read them.

        Raises:
            UserError: the folder can't be written.
        """
        example = {name: value[0] for name, value in self._compute(self.sources[group], take(batch, [0])).items()}
        for scope, dataset in datasets.items():
            store = self._on_disk[scope, group] = FeatureStore(folder, dataset.locate, example)
            known, total = sum(sample in store for sample in range(len(dataset))), len(dataset)
            if all(name == group or not source.sees_images for name, source in self.sources.items()):
                dataset.images_needed = known < total
            overwatch.info(f"features of {group} ({scope}): {known:,} of {total:,} samples are in {folder}")

    def admit(self, batch: Batch, num_samples: int) -> None:
        """Give up the sources whose features of `num_samples` samples would not fit; judged by `batch`, a few of them.

        A source that is given up costs nothing: the model computes its features with the rest, a batch at a time.
        """
        needed: dict[str, float] = {}
        for group, source in self.sources.items():
            if ("train", group) in self._on_disk:
                continue
            keys = source.keys(batch)
            features = self._compute(source, take(batch, [0]))
            distinct = len(set(keys)) / len(keys)
            needed[group] = sum(value.nbytes for value in features.values()) * distinct * num_samples
        room: float = self._max_bytes
        for group in sorted(needed, key=needed.__getitem__):
            if needed[group] > room:
                overwatch.info(
                    f"features of {group} are not cached: {needed[group] / 2**30:.1f} GiB would be needed,"
                    f" {room / 2**30:.1f} GiB are left"
                )
                del self.sources[group]
            else:
                room -= needed[group]

    def fill(self, batch: Batch, scope: str) -> Batch:
        """`batch` (as loaded, on the host) with `features` from all sources.

        Args:
            scope: name of the dataset that the samples are from; keys are only unique inside it.
        """
        features = dict(getattr(batch, "features", {}))
        for group, source in self.sources.items():
            keys: list[Hashable] = [(scope, group, key) for key in source.keys(batch)]
            found = self._look_up(keys, source, batch, self._on_disk.get((scope, group)))
            with torch.autocast("cpu", enabled=False):  # which would refuse to stack float16
                features |= {name: torch.stack([found[key][name] for key in keys]) for name in found[keys[0]]}
        return replace(batch, features=features) if self.sources else batch  # type: ignore[call-arg]

    def _look_up(
        self, keys: list[Hashable], source: FeatureSource, batch: Batch, on_disk: FeatureStore | None
    ) -> dict[Hashable, Features]:
        if on_disk is None:
            found = {key: self._store[key] for key in keys if key in self._store}
        else:
            found = {key: on_disk.get(key[-1]) for key in keys if key[-1] in on_disk}  # type: ignore[index]
        missing: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            if key not in found:
                missing.setdefault(key, row)
        for key, row in self._rounds(missing):
            features = {
                name: value[0].detach().to("cpu", copy=True)
                for name, value in self._compute(source, take(batch, [row])).items()
            }
            if key is not None:
                self.num_computed += 1
                found[key] = features
                if on_disk is None:
                    self._keep(key, features)
                else:
                    on_disk.put(key[-1], features)  # type: ignore[index]
        return found

    def _rounds(self, missing: dict[Hashable, int]) -> Iterable[tuple[Hashable | None, int]]:
        """What to compute, one sample after the other; key None: only to keep other processes company."""
        rounds = len(missing) if self._agree is None else self._agree(len(missing))
        yield from missing.items()
        for _ in range(rounds - len(missing)):
            yield None, 0

    def _keep(self, key: Hashable, features: Features) -> None:
        size = sum(value.nbytes for value in features.values())
        if self.num_bytes + size <= self._max_bytes:
            self._store[key] = features
            self.num_bytes += size


def keep_on_disk(
    cache: FeatureCache, model: BaseModel, datasets: Datasets, batch: Batch, config: PretrainConfig
) -> None:
    """Give every source of samples its folder below `feature_cache.dir`, named by all that the features depend on.

    Args:
        cache: of the run.
        model: of the run, with its weights.
        datasets: features of those that can `locate` their samples in episodes are kept.
        batch: a few training samples.
        config: the run's.
    """
    assert config.feature_cache.dir is not None
    splits = {"train": datasets.train, "eval": datasets.validation}
    located = {scope: dataset for scope, dataset in splits.items() if hasattr(dataset, "locate")}
    for group, source in cache.sources.items():
        if source.settings is not None and "train" in located:
            images = _image_settings(datasets.processor)
            parts = {"settings": source.settings, "images": images, "precision": config.stage_config.precision}
            name = fingerprint(parts, model.module_groups()[group])
            cache.keep_on_disk(group, batch, config.feature_cache.dir / f"{group}-{name}", located)


def _image_settings(processor: Any) -> str:
    """What a run's Processor says about how images are made from what is stored."""
    config = processor.config
    if isinstance(processor, LanguageProcessor):
        return repr((processor.transforms, config.image_resize_strategy))
    if isinstance(processor, AnomalyProcessor):
        return processor.image_settings
    images = ("cameras", "num_frames", "frame_stride", "image_size", "resize", "orientation")
    settings = {name: getattr(config, name) for name in images}
    losses = {name: getattr(config, name) for name in ("jpeg_quality", "center_crop")}
    return repr(settings | {name: value for name, value in losses.items() if value is not None})
