"""The one factory of datasets."""

from vla.conf.datasets import DatasetConfig
from vla.conf.models import ModelConfig
from vla.conf.registry import resolve_target
from vla.data.datasets.base import Datasets
from vla.data.processor import Processor

__all__ = ["Datasets", "get_datasets"]


def get_datasets(
    dataset_config: DatasetConfig, model_config: ModelConfig, processor: Processor | None = None
) -> Datasets:
    """Open the training and the held-out data.

    Args:
        dataset_config: which data; its `target` is the class whose `build` is called (see `Datasets`).
        model_config: what the model sees (`processor`) and predicts (`chunk_size`).
        processor: the Processor of a checkpoint, used as it is; None computes the statistics from the training split.

    Raises:
        ValueError: the data can't be found, or doesn't fit the model; the message names the field.
        BadEpisode: an episode can't be trained on (a ValueError, too).
    """
    return resolve_target(dataset_config).build(dataset_config, model_config, processor)
