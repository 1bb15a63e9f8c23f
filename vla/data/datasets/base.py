"""What every dataset is: a map from sample numbers to samples, and how a third party's dataset is built."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vla.batches import Batch
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)


@runtime_checkable
class MapDataset(Protocol):
    """Random access to samples; safe to pickle and to use from several processes.

    A sample is a dict. Of an action dataset it holds `images` (uint8 [S, 3, H, W], as stored), `instruction` (str),
    `actions` (float32 [chunk, A], normalised), `action_mask` (bool [chunk]) and, if the model wants it, `proprio`
    (float32 [P], normalised). One of a language dataset holds `input_ids` and `labels` (int64 [L]), `pixel_values`
    (uint8 [3, S, S] by tower, or None) and `is_multimodal`. The loader adds `sample_id`, `rng_seed` and `is_padding`.
    Nothing in a sample may depend on anything but its number: the same number gives the same sample in every process.

    Where `augments` of an action dataset is true, its samples hold `augmented` (True), and the task changes their
    images at random, another way in every epoch; only a training split's may be, and what is seen in them is not kept.

    A dataset with text-only rows may also have `modality_lengths()`: (is_multimodal, length) of every sample.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def sample_label(self, index: int) -> str:
        """Where the sample comes from, for error messages: `"put_the_bowl_demo.hdf5 demo_3 t=12"`."""
        ...


@dataclass(frozen=True)
class Datasets:
    """What a run reads.

    The class that a dataset's config names as its `target` makes one, by
    `Target.build(config, model_config, processor) -> Datasets`, where `processor` is None for a new run (then `build`
    makes one, with statistics of the training split only) and otherwise the one to use as it is. Where the config's
    `needs_stage` is true, `stage=` is passed, too.
    """

    train: MapDataset
    validation: MapDataset | None  # None: nothing is held out
    collator: Callable[[list[dict[str, Any]]], Batch]
    processor: Any  # a Processor, or a LanguageProcessor


def existing_root(root: Path | None, contents: str) -> Path:
    """The folder that `dataset.root` names.

    Args:
        root: its value.
        contents: what has to be in the folder, for the message.

    Raises:
        UserError: it names none, or there is no such folder.
    """
    if root is None:
        raise UserError(f"dataset.root: must name the folder {contents}")
    if not root.is_dir():
        raise UserError(f"dataset.root: no such folder: {root}")
    return root


def warn_of_skipped(root: Path | None, what: str, skipped: list[str], most: int | None = None) -> None:
    """Count what was left out of the dataset in `root`, and say of each, or of the first `most`, why."""
    if not skipped:
        return
    overwatch.warning(f"{root}: skipped {len(skipped)} bad {what}:")
    for line in skipped[:most]:
        overwatch.warning(f"skipped {line}")
    if most is not None and len(skipped) > most:
        overwatch.warning(f"skipped {len(skipped) - most} more")
