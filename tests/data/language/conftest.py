"""The golden rows as a dataset."""

from pathlib import Path

import pytest
from language_files import CASES, write_rows
from PIL import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The golden rows; picture k is of the grey value 40 k."""
    write_rows(tmp_path / "align.json", CASES["align_examples"])
    write_rows(tmp_path / "finetune.json", CASES["finetune_examples"])
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number,) * 3).save(tmp_path / "images" / f"{number}.png")
    return tmp_path
