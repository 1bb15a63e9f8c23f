"""Tables of results, and sheets of pictures to look at."""

import csv
import io

import numpy as np
import pytest
import torch

from vla.evaluation.anomaly.pictures import choose, heat, sheet
from vla.evaluation.anomaly.results import METRICS, AnomalyResults
from vla.evaluation.anomaly.tables import percent, rows, to_csv, to_markdown
from vla.overwatch.distributed import DistState

SHAPE = (16, 16)


@pytest.fixture
def results() -> AnomalyResults:
    """Seven pictures of a nut with defects that are found less and less well, two good ones, and a good washer."""
    maps, masks = torch.rand(10, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.zeros(10, *SHAPE).bool()
    for number in range(7):
        masks[number, 2:8, 3:9] = True
        maps[number, 2:8, 3:9] += 1.5 - 0.3 * number
    maps[8] += 0.5
    found = AnomalyResults((4, 4))
    labels = masks.flatten(1).any(1).long()
    found.add(torch.arange(10), ["nut"] * 9 + ["washer"], maps, masks, labels, torch.ones(10).bool())
    return found


def test_tables(results):
    table = rows(results.compute(DistState()))
    assert [row["class"] for row in table] == ["nut", "washer", "mean"]
    assert (table[2]["good"], table[2]["defective"]) == (3, 7) and table[2]["pixel_ap"] == table[0]["pixel_ap"]
    read = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert float(read[0]["image_auroc_max"]) == table[0]["image_auroc_max"] and read[1]["pixel_aupro"] == ""
    lines = to_markdown(table).splitlines()
    assert len(lines) == 5 and lines[0].count("|") == lines[4].count("|") == len(METRICS) + 4
    assert f"| {percent(table[0]['pixel_auroc'])} |" in lines[2] and "–" in lines[3]


def test_choices_are_the_best_the_middle_and_the_worst(results):
    shown = choose(results.pictures("nut"), SHAPE)
    assert [choice.picture.sample for choice in shown] == [0, 3, 6, 8]
    assert [choice.why.split(":")[0].split(",")[0] for choice in shown] == ["best", "median", "worst", "good"]
    alone = choose(results.pictures("washer"), SHAPE)
    assert [choice.picture.sample for choice in alone] == [9]
    two = choose(results.pictures("nut")[:2], SHAPE)
    assert [choice.picture.sample for choice in two] == [0, 1]


def test_sheets_show_picture_truth_and_map(results):
    shown = choose(results.pictures("nut"), SHAPE)
    images = [np.full((3, *SHAPE), 200, dtype=np.uint8) for _ in shown]
    page = np.asarray(sheet(shown, images, SHAPE, (0.0, 2.5)))
    height, width = page.shape[0] // 4, page.shape[1] // 3
    first = page[:height]
    assert (first[60:120, 60:120] == 200).all()  # the picture
    truth = first[30:200, width + 20 : 2 * width - 20]
    assert {0, 255} <= set(np.unique(truth)) and truth.std() > 60
    overlay = first[30:200, 2 * width + 10 : -10].astype(int)
    assert np.abs(overlay[..., 0] - overlay[..., 2]).max() > 60  # it has colours


def test_colours_go_from_dark_blue_to_red():
    colors = heat(np.linspace(0, 1, 5))
    assert colors.shape == (5, 3) and colors[0, 2] > colors[0, 0] and colors[-1, 0] > colors[-1, 2]
