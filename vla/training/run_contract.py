"""What a run must agree on with the checkpoint that it goes on from, or whose weights it begins with."""

from dataclasses import replace
from pathlib import Path

from vla.conf import cli
from vla.conf.merging import encode
from vla.conf.pretrain import PretrainConfig
from vla.data.contract import (
    describe_differences,
    find_differences,
    refuse_differences,
    refuse_other_data,
    refuse_other_processor,
)
from vla.data.datasets.base import Datasets
from vla.data.materialize import load_processor
from vla.data.processor import PROCESSOR_FILE
from vla.overwatch import initialize_overwatch
from vla.training.checkpoint import CONFIG

overwatch = initialize_overwatch(__name__)

_CONVENTIONS = "conventions."
_OF_A_START = ("resume", "override_contract", "run_root_dir", "run_id", "dry_run")  # not of the run


def as_resumed(config: PretrainConfig, resume_from: Path | None) -> PretrainConfig:
    """`config` with the input and output contract of the checkpoint to resume.

    Raises:
        UserError: this run's is another, and `override_contract` doesn't name the field.
    """
    if resume_from is None:
        return config
    whole = cli.load(PretrainConfig, resume_from / CONFIG)
    saved = whole.model
    _tell_other_settings(whole, config)
    if type(saved) is not type(config.model):
        return config  # what differs is more than the contract; restoring says so
    before, now = ({"processor": encode(model.processor)} for model in (saved, config.model))
    found = find_differences(before, now)
    named = [name for name in config.override_contract if not name.startswith(_CONVENTIONS)]
    refuse_differences(found, "this run", named)
    return replace(config, model=replace(config.model, processor=saved.processor)) if found else config


def _tell_other_settings(saved: PretrainConfig, config: PretrainConfig) -> None:
    """Settings may be changed on the way, but not by an oversight."""
    found = [
        item
        for item in find_differences(encode(saved), encode(config))
        if item[0] not in _OF_A_START and not item[0].startswith("model.processor.")  # which is refused
    ]
    if found:
        overwatch.warning(f"resume: other settings than the checkpoint's: {describe_differences(found, 'this run')}")


def refuse_other_contract(config: PretrainConfig, datasets: Datasets, begin_with: Path | None) -> None:
    """Compare the run's data with the checkpoint that it goes on from, or with the one whose weights it begins with.

    Args:
        config: the run's, with the fields that may differ.
        datasets: of the run; where it goes on from a checkpoint, with the checkpoint's Processor.
        begin_with: checkpoint whose weights it begins with (`find_pretrained`); a run folder of Prismatic's holds no
            contract of this toolkit, and is compared by its weights' shapes alone.

    Raises:
        UserError: a field differs that `override_contract` doesn't name; one line with all that do.
    """
    if begin_with is None:
        refuse_other_data(datasets, [name for name in config.override_contract if name.startswith(_CONVENTIONS)])
    elif (begin_with / PROCESSOR_FILE).is_file():
        saved = load_processor(begin_with).contract()
        refuse_other_processor(saved, datasets.processor.contract(), config.override_contract)
