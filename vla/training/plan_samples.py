"""How many samples and steps an epoch of a planned run has, without what only training needs of the data."""

from dataclasses import replace
from typing import Any

from vla.conf.pretrain import PretrainConfig
from vla.data.language.processor import LanguageProcessor
from vla.data.materialize import get_datasets
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.errors import UserError
from vla.overwatch.distributed import DistState
from vla.tokenization import BYTES
from vla.training.data_feed import get_sampler


def count_samples(
    config: PretrainConfig, world_size: int, assumptions: list[str]
) -> tuple[int, int] | tuple[None, None]:
    """Training samples and optimizer steps of an epoch; None where there is no data to look at, which is noted.

    Raises:
        UserError: the data is given but can't be read.
    """
    if getattr(config.dataset, "root", True) is None:
        unit = "" if config.stage_config.max_steps else ": what depends on them is told in epochs"
        assumptions.append(f"steps per epoch are not known without the data (--dataset.root){unit}")
        return None, None
    try:
        train = get_datasets(config.dataset, config.model, _stand_in(config.model), config.stage).train
    except ValueError as error:
        raise error if isinstance(error, UserError) else UserError(str(error)) from None
    return len(train), get_sampler(train, config, DistState(world_size=world_size)).steps_per_epoch


def _stand_in(model: Any) -> Any:
    """A Processor with which samples can be counted; the right one needs the data's statistics, or a tokenizer."""
    task = type(model).task
    if task == "action":
        statistics = {"actions": _anything(model.processor.action_dim), "proprio": _anything(model.state_dim)}
        return Processor(model.processor, model.chunk_size, statistics)
    if task == "language":
        language = replace(model.llm_backbone, tokenizer=BYTES)
        return LanguageProcessor.from_config(replace(model, pretrained=False, llm_backbone=language))
    return None


def _anything(width: int) -> ArrayStatistics:
    low, middle, high = (-1.0,) * width, (0.0,) * width, (1.0,) * width
    return ArrayStatistics(min=low, max=high, mean=middle, std=high, q01=low, q99=high, count=1)
