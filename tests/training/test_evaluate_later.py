"""Evaluating later: which field an error names where nothing is held out, and data that is elsewhere by then."""

from pathlib import Path
from typing import Any

import pytest

from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.vqa_datasets import LlavaVQAConfig, VQAConfig
from vla.training.evaluate import held_out_field, with_root


@pytest.mark.parametrize(
    ("dataset", "field"),
    [(VQAConfig(), "dataset.validation_samples"), (LlavaVQAConfig(), "dataset.validation_fraction")],
)
def test_the_field_is_one_that_the_data_has(dataset: Any, field: str) -> None:
    assert held_out_field(PretrainConfig(model=NanoVLMTinyConfig(), dataset=dataset)) == field
    assert hasattr(dataset, field.partition(".")[2])


def test_data_of_a_hub_may_be_in_a_folder_by_then() -> None:
    found = with_root(VQAConfig(hub="owner/name"), Path("copy"))
    assert (found.hub, found.root) == (None, Path("copy"))
    assert with_root(LlavaVQAConfig(), Path("copy")).root == Path("copy")
