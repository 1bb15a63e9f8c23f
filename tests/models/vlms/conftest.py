"""The tiny model of the golden cases, batches for it, and runs of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vla.batches import LanguageBatch
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.models.vlms.prismatic import PrismaticVLM

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "prismatic"


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """A mixed batch through the published code: `w.*`, `in.*`, `out.*`."""
    return load_file(GOLDEN / "vlm_dev_siglip_mixed.safetensors")


@pytest.fixture
def golden_model(golden: dict[str, Tensor]) -> PrismaticVLM:
    """`prism-tiny` with the golden weights, under their published names."""
    model = PrismaticVLM(PrismTinyConfig())
    model.load_state_dict({name[2:]: value for name, value in golden.items() if name.startswith("w.")})
    return model.eval()


@pytest.fixture
def golden_batch(golden: dict[str, Tensor]) -> LanguageBatch:
    """The golden case's inputs: samples 0 and 2 have an image."""
    return make_batch(golden)


def make_batch(golden: dict[str, Tensor], rows: list[int] | None = None) -> LanguageBatch:
    """Some samples of the golden batch."""
    size = len(golden["in.input_ids"])
    is_multimodal = torch.zeros(size, dtype=torch.bool)
    is_multimodal[golden["in.multimodal_indices"]] = True
    index = torch.tensor(list(range(size)) if rows is None else rows)
    return LanguageBatch(
        sample_ids=index,
        input_ids=golden["in.input_ids"][index],
        attention_mask=golden["in.attention_mask"][index],
        labels=golden["in.labels"][index],
        pixel_values={"siglip": golden["in.pixel_values"][index]},
        is_multimodal=is_multimodal[index],
    )


@pytest.fixture
def rows_of(golden: dict[str, Tensor]) -> Callable[[list[int]], LanguageBatch]:
    """Batches of some samples of the golden one."""
    return lambda rows: make_batch(golden, rows)
