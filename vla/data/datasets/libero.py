"""LiberoDataset: LIBERO's HDF5 demonstrations as episodes."""

from collections import Counter
from dataclasses import replace

from vla.conf.datasets import LiberoConfig
from vla.conf.models import ActionModelConfig
from vla.data.collators import ActionCollator
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.datasets.base import Datasets, existing_root, warn_of_skipped
from vla.data.datasets.episodes import Scan, split_episodes, training_statistics
from vla.data.datasets.hdf5_frames import FrameReader
from vla.data.datasets.hdf5_index import CONTENTS, scan
from vla.data.datasets.libero_format import ACTION_DIM, PROPRIO
from vla.data.datasets.windows import EpisodeDataset
from vla.data.processor import Processor
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)


class LiberoDataset(EpisodeDataset):
    """Windows of LIBERO's demonstrations; see `EpisodeDataset`."""

    @classmethod
    def build(cls, config: LiberoConfig, model_config: ActionModelConfig, processor: Processor | None) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors."""
        wanted = processor.config if processor else model_config.processor
        if wanted.action_dim != ACTION_DIM:
            raise UserError(
                f"model.processor.action_dim: LIBERO's actions have {ACTION_DIM} dimensions, got {wanted.action_dim}"
            )
        states = sum(PROPRIO.values())
        if wanted.proprio and model_config.state_dim != states:
            raise UserError(
                f"model.processor.proprio_dim: LIBERO's states have {states} dimensions, got {model_config.state_dim}"
            )
        root = existing_root(config.root, CONTENTS)
        found = scan(config, wanted.cameras, wanted.proprio)
        train, held_out = split_episodes(found.episodes, config.validation_episodes)
        if processor is None:
            options = {"filter_noops": config.filter_noops, "action_source": config.action_source}
            statistics = training_statistics(train, root, options)
            conventions = replace(LIBERO_CONVENTIONS, image_shape=found.episodes[0].image_shape)
            processor = Processor(wanted, model_config.chunk_size, statistics, conventions)
        cache_bytes = config.frame_cache_mb * 2**20
        meaning = LIBERO_CONVENTIONS
        training = cls(train, FrameReader(root, cache_bytes), processor, meaning, found.skipped, wanted.augmentation)
        validation = None
        if held_out:
            validation = cls(held_out, FrameReader(root, cache_bytes), processor, meaning, found.skipped)
        _report(config, found, training, validation)
        return Datasets(train=training, validation=validation, collator=ActionCollator(), processor=processor)


def _report(config: LiberoConfig, found: Scan, train: LiberoDataset, validation: LiberoDataset | None) -> None:
    name = type(config).dataset_id or str(config.root)
    files = {episode.file: episode.alignment for episode in found.episodes}
    alignments = ", ".join(f"{count} {when}" for when, count in sorted(Counter(files.values()).items()))
    held_out = f"{len(validation.episodes)} episodes, {len(validation):,} samples" if validation else "none"
    overwatch.info(
        f"{name}: {len(train.episodes)} episodes, {len(train):,} samples of {len(files)} tasks; held out: {held_out}; "
        f"files with observations before or after their action: {alignments}"
    )
    warn_of_skipped(config.root, "episodes or files", found.skipped)
