"""The datasets of packed sequences: an endless stream of packs to train on, and a list of packs that are held out."""

from collections.abc import Sized
from typing import Any

from vla.conf.datasets import LlavaConfig
from vla.conf.models.nanovlm import NanoVLMConfig
from vla.conf.stage import Stage
from vla.conf.vqa_datasets import LlavaVQAConfig, PackedDatasetConfig, PackingConfig, RatingsConfig, VQAConfig
from vla.data.datasets.base import Datasets
from vla.data.errors import BadExample, one_line
from vla.data.language.selection import select_rows
from vla.data.packing.best_fit import BestFitPacker
from vla.data.packing.packer import Admission, Packer, Size, pack_all
from vla.data.packing.published import PublishedPacker
from vla.data.vqa.collator import PackCollator, Sample
from vla.data.vqa.hugging_face import open_shards, open_tables
from vla.data.vqa.lane import Lane
from vla.data.vqa.processor import VQAProcessor
from vla.data.vqa.readers import MapReader, MapSource, ShardedSource, ShardReader
from vla.data.vqa.samples import BAD, LeftOut, SampleMaker
from vla.data.vqa.sources import Items, LlavaRows, Tables
from vla.data.vqa.stream import Deal, PackStream
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState

overwatch = initialize_overwatch(__name__)

_PROBED = 256  # samples of which the mean length is taken, to say how many packs an epoch has
_FILL = {"best-fit": 0.99, "published": 0.6, "none": 1.0}  # share of a pack's places that hold a token


class PackedSamples:
    """
    Training data that is packed while it is read; see `PackStream`.

    Args:
        source: with random access, or in shards that are read from front to back.
        maker: makes samples of items.
        config: how they are packed, and what becomes of bad ones.
        seq_length: tokens of a pack.
    """

    def __init__(
        self, source: MapSource | ShardedSource, maker: SampleMaker, config: PackedDatasetConfig, seq_length: int
    ) -> None:
        self.source, self.maker, self.config, self.seq_length = source, maker, config, seq_length
        self._packs: int | None = None

    def __len__(self) -> int:
        """
        About how many packs hold every sample once: from the lengths of a few samples.

        Raises:
            UserError: the data is streamed, so that nobody knows.
            BadExample: none of these samples can be trained on.
        """
        if self._packs is None:
            self._packs = self._count_packs()
        return self._packs

    def sample_label(self, index: int) -> str:
        """Packs have no places of their own."""
        return f"pack {index}"

    def open_lane(self, stream: int, streams: int, seed: int) -> Lane:
        """A stream of packs from its beginning."""
        kind: Any = MapReader if isinstance(self.source, Sized) else ShardReader
        reader = kind(self.source, stream, streams, seed)
        packer = get_packer(self.config.packing, self.seq_length, seed + stream)
        return Lane(reader, self.maker, packer, strict=self.config.on_bad_sample == "error")

    def stream(
        self, dist: DistState, *, global_batch_size: int, batch_size: int, seed: int, max_steps: int | None = None,
        num_workers: int = 0, prefetch_factor: int = 4, pin_memory: bool = False,
    ) -> PackStream:  # fmt: skip
        """
        The batches of one process.

        Args:
            dist: this process.
            global_batch_size, batch_size: sequences per step of all processes, and per micro-batch.
            seed: of the order.
            max_steps: of the run; an epoch, where nobody knows how long one is.
            num_workers, prefetch_factor, pin_memory: see `vla.data.loader.get_dataloader`.

        Raises:
            UserError: the data is streamed and `max_steps` isn't given.
        """
        packing = self.config.packing
        deal = Deal.at_least(packing.streams, global_batch_size // batch_size, dist.rank, dist.world_size)
        if isinstance(self.source, Sized):
            steps = max(1, -(-len(self) // global_batch_size))
        elif max_steps is not None:
            steps = max_steps
        else:
            raise UserError("dataset.streaming: how long an epoch is nobody knows; pass the stage's max_steps")
        return PackStream(
            _LaneOpener(self, seed), PackCollator(self.maker.processor, packing.cross_document_attention), dist, deal,
            global_batch_size=global_batch_size, batch_size=batch_size, steps_per_epoch=steps,
            identity={"seed": seed, "global_batch_size": global_batch_size, "per_device_batch_size": batch_size,
                      "packing": repr(packing), "samples": self._extent()},
            num_workers=num_workers, prefetch_factor=prefetch_factor, pin_memory=pin_memory,
        )  # fmt: skip

    def _extent(self) -> int:
        """Samples or, where nobody knows, shards of the source."""
        return len(self.source) if isinstance(self.source, Sized) else self.source.num_shards

    def _count_packs(self) -> int:
        if not isinstance(self.source, Sized):
            raise UserError("dataset.streaming: how many samples there are nobody knows")
        number, probed = len(self.source), min(_PROBED, len(self.source))
        lengths: list[int] = []
        reason = ""
        for place in range(probed):
            try:
                _, size = self.maker.outline(place, self.source.item(place * number // probed, 0))
                lengths.append(size.length)
            except Exception as error:  # whatever is wrong with it is told when it is its turn
                reason = reason or f"{self.source.label(place * number // probed)}: {one_line(error)}"
        if not lengths:
            raise BadExample(f"dataset: none of {probed} samples can be trained on; the first, {reason}")
        tokens = sum(lengths) / probed * number
        algorithm = self.config.packing.algorithm
        packs = number * len(lengths) / probed if algorithm == "none" else tokens / self.seq_length / _FILL[algorithm]
        return max(1, round(packs))


class _LaneOpener:
    """`PackedSamples.open_lane` with a seed; can be sent to another process."""

    def __init__(self, data: PackedSamples, seed: int) -> None:
        self._data, self._seed = data, seed

    def __call__(self, stream: int, streams: int) -> Lane:
        return self._data.open_lane(stream, streams, self._seed)


class HeldOutPacks:
    """
    Packs of a fixed list of samples, each in exactly one; a map dataset like others. Pictures are read when asked for.

    Args:
        source: the samples.
        maker: makes samples of items.
        config: how they are packed, and what becomes of bad ones.
        seq_length: tokens of a pack.
    """

    def __init__(self, source: MapSource, maker: SampleMaker, config: PackedDatasetConfig, seq_length: int) -> None:
        self.source, self.maker, self._strict = source, maker, config.on_bad_sample == "error"
        self.left_out: list[str] = []
        sizes = [size for size in map(self._size, range(len(source))) if size is not None]
        self.packs = list(pack_all(get_packer(config.packing, seq_length, 0), sizes))
        if self.left_out and not self.packs:
            raise BadExample(f"dataset: none of {len(source)} held-out samples can be used; {self.left_out[0]}")
        if self.left_out:
            overwatch.warning(f"{len(self.left_out)} held-out samples are left out: {'; '.join(self.left_out[:3])}")

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`samples` of a pack; one whose picture can't be read is there without anything to learn."""
        return {"samples": [self._sample(key) for key in self.packs[index]]}

    def sample_label(self, index: int) -> str:
        """Where the samples of a pack come from."""
        return ", ".join(self.source.label(key) for key in self.packs[index])

    def _size(self, index: int) -> Size | None:
        try:
            return self.maker.outline(index, self.source.item(index, 0))[1]
        except Exception as error:  # whatever a library raises about a damaged file
            self._complain(index, error)
            return None

    def _sample(self, index: int) -> Sample:
        sample, _ = self.maker.outline(index, self.source.item(index, 0))
        try:
            return self.maker.with_pixels(sample)
        except LeftOut as error:
            self._complain(index, error)
            ids, labels = self.maker.processor.tokenize([("", "")], [])
            return Sample(index, ids[:1], labels[:1], [], [], [])

    def _complain(self, index: int, error: Exception) -> None:
        message = f"{self.source.label(index)}: {error}"
        if self._strict and getattr(error, "kind", BAD) == BAD:
            raise BadExample(message) from error
        self.left_out.append(message)


def get_packer(config: PackingConfig, seq_length: int, seed: int) -> Packer:
    """The packer that `config` names, empty."""
    if config.algorithm == "published":
        return PublishedPacker(seq_length, config.max_images, config.num_sequences, seed)
    return BestFitPacker(seq_length, config.max_images, config.buffer_size if config.algorithm == "best-fit" else 1)


def get_admission(config: PackingConfig, seq_length: int) -> Admission:
    """Which samples `config` lets into packs of `seq_length` tokens."""
    separators = int(config.cross_document_attention)
    longest = min(config.max_sample_length or seq_length, seq_length - separators)
    return Admission(longest, min(config.max_images_per_sample or config.max_images, config.max_images), separators)


class HuggingFaceVQA:
    """Data in the layout of Hugging Face's `datasets`."""

    @staticmethod
    def build(config: VQAConfig, model_config: Any, processor: VQAProcessor | None) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors."""
        train: MapSource | ShardedSource
        validation: MapSource | None = None
        held_out = config.validation_samples
        if config.streaming:
            train, items, labels = open_shards(config).hold_out(held_out)
            _check_held_out(held_out, len(items) if len(items) < held_out else None)
            validation = Items(items, labels) if items else None
        else:
            tables = Tables(open_tables(config))
            _check_held_out(held_out, tables.num_rows)
            train, validation = tables.hold_out(held_out) if held_out else (tables, None)
        return _datasets(config, model_config, processor, train, validation, config.min_ratings)


def _check_held_out(held_out: int, number: int | None) -> None:
    """Raise UserError if all of `number` samples would be held out; None: there are more."""
    if number is not None and held_out >= number:
        raise UserError(f"dataset.validation_samples: must be less than the {number} samples there are, got {held_out}")


class LlavaVQA:
    """Rows in LLaVA's format, packed."""

    @staticmethod
    def build(config: LlavaVQAConfig, model_config: Any, processor: VQAProcessor | None) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors."""
        rows = LlavaConfig(
            root=config.root, finetune_annotations=config.annotations, finetune_images=config.images,
            finetune_validation_annotations=config.validation_annotations,
            validation_fraction=config.validation_fraction, on_bad_example=config.on_bad_sample,
        )  # fmt: skip
        try:
            found = select_rows(rows, Stage.FULL_FINETUNE)
        except UserError as error:  # of fields that are named otherwise here
            raise type(error)(str(error).replace("dataset.finetune_", "dataset.")) from None
        validation = LlavaRows(found.validation) if found.validation else None
        return _datasets(config, model_config, processor, LlavaRows(found.train), validation, RatingsConfig())


def _datasets(
    config: PackedDatasetConfig, model_config: Any, processor: VQAProcessor | None, train: MapSource | ShardedSource,
    validation: MapSource | None, ratings: RatingsConfig,
) -> Datasets:  # fmt: skip
    if not isinstance(model_config, NanoVLMConfig):
        name = type(model_config).model_id
        raise UserError(f"dataset.type: packed sequences are for models of nanoVLM's kind, got model '{name}'")
    processor = processor or VQAProcessor.from_config(model_config)
    seq_length = model_config.processor.max_length
    maker = SampleMaker(processor, ratings, get_admission(config.packing, seq_length))
    held_out = HeldOutPacks(validation, maker, config, seq_length) if validation is not None else None
    return Datasets(
        PackedSamples(train, maker, config, seq_length),  # type: ignore[arg-type]
        held_out if held_out else None,
        PackCollator(processor, config.packing.cross_document_attention),
        processor,
    )
