"""Sizes and grids against recorded ones."""

import json
from pathlib import Path

import pytest

from vla.data.vqa.tiling import Tiling, num_tiles

TABLES = json.loads((Path(__file__).parents[2] / "golden" / "nanovlm" / "image_resize.json").read_text())["tables"]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: f"{t['patch']}-{t['max_side']}-{t['resize_to_max_side_len']}")
def test_resized_sizes_are_the_recorded_ones(table: dict) -> None:
    tiling = Tiling(table["patch"], table["max_side"], table["resize_to_max_side_len"])
    assert [list(tiling.resized(*size)) for size in table["sizes_hw"]] == table["out_hw"]


def test_tiles_of_a_picture() -> None:
    tiling = Tiling(512, 2048)
    assert tiling.grid(480, 640) == (3, 4) and num_tiles((3, 4)) == 13
    assert tiling.grid(700, 700) == (4, 4) and num_tiles((4, 4)) == 17
    assert Tiling(512, 2048, resize_to_max=False).grid(300, 300) == (1, 1) and num_tiles((1, 1)) == 1
