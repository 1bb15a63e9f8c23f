"""Golden cases of nanoVLM."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nanovlm_cases import Case, read_case, read_golden


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def case_of() -> Callable[[str], Case]:
    """A case by the stem of its file."""
    return read_case


@pytest.fixture(scope="session")
def case() -> Case:
    """The whole model."""
    return read_case("case_dev")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a JSON file by its stem."""
    return read_golden
