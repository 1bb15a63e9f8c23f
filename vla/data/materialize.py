"""The factories of datasets and processors."""

from pathlib import Path
from typing import Any

from vla.conf.datasets import DatasetConfig
from vla.conf.json_files import read_json_object
from vla.conf.models import ModelConfig
from vla.conf.registry import resolve_target
from vla.conf.stage import Stage
from vla.data.anomaly.processor import KIND as ANOMALY
from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.datasets.base import Datasets
from vla.data.language.processor import KIND as LANGUAGE
from vla.data.language.processor import LanguageProcessor
from vla.data.processor import PROCESSOR_FILE, Processor
from vla.data.vqa.processor import KIND as VQA
from vla.data.vqa.processor import VQAProcessor
from vla.errors import UserError

__all__ = ["Datasets", "get_datasets", "load_processor"]

_ACTION = "action"  # files of action models name no kind


def get_datasets(
    dataset_config: DatasetConfig, model_config: ModelConfig, processor: Any = None, stage: Stage = Stage.ALIGN
) -> Datasets:
    """Open the training and the held-out data.

    Args:
        dataset_config: which data; its `target` is the class whose `build` is called (see `Datasets`).
        model_config: what the model sees (`processor`) and predicts (`chunk_size`).
        processor: the one of a checkpoint, used as it is; None makes one (with statistics of the training split).
        stage: that the data is for; passed on to datasets whose stages differ (`DatasetConfig.needs_stage`).

    Raises:
        ValueError: the data can't be found, or doesn't fit the model; the message names the field.
        BadData: an episode or example can't be trained on (a ValueError, too).
    """
    build = resolve_target(dataset_config).build
    options = {"stage": stage} if type(dataset_config).needs_stage else {}
    datasets = build(dataset_config, model_config, processor, **options)
    wanted = processor.config if isinstance(processor, Processor) else model_config.processor
    if getattr(wanted, "augmentation", False) and not getattr(datasets.train, "augments", False):
        raise UserError("model.processor.augmentation: must be false, the dataset can't augment its images; got True")
    return datasets


def load_processor(folder: Path) -> Any:
    """The Processor that was saved into `folder`: of its model's kind, an action model's is a `Processor`.

    Raises:
        FileNotFoundError: there is no `processor.json` in `folder`.
        ValueError: it isn't one.
    """
    path = folder / PROCESSOR_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {PROCESSOR_FILE} in {folder}")
    kind = read_json_object(path).get("kind", _ACTION)
    kinds: dict[str, Any] = {
        _ACTION: Processor, ANOMALY: AnomalyProcessor, LANGUAGE: LanguageProcessor, VQA: VQAProcessor,
    }  # fmt: skip
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{path}: not a processor file of this version (kind {kind!r})")
    return kinds[kind].load(folder)
