"""Results by class: published numbers, classes that lack pictures, memory, and any number of processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla.evaluation.anomaly.ranking import area, rank
from vla.evaluation.anomaly.regions import region_weights
from vla.evaluation.anomaly.results import METRICS, AnomalyResults
from vla.evaluation.anomaly.scores import image_scores
from vla.overwatch.distributed import DistState

GOLDEN = Path(__file__).parents[2] / "golden/uniad"


def collect(maps, masks, classes, pool=(16, 16), order=None, **options) -> AnomalyResults:
    results = AnomalyResults(pool, **options)
    order = torch.arange(len(maps)) if order is None else torch.as_tensor(order)
    for rows in order.split(5):
        labels = masks[rows].flatten(1).any(1).long()
        names = [classes[row] for row in rows.tolist()]
        results.add(rows, names, maps[rows], masks[rows], labels, torch.ones(len(rows), dtype=torch.bool))
    return results


@pytest.fixture(scope="module")
def golden():
    record = json.loads((GOLDEN / "uniad_metrics_dev.json").read_text())["dev"]
    return record, load_file(GOLDEN / "uniad_metrics_dev.safetensors")


def test_published_scores(golden):
    _, tensors = golden
    for kind, values in image_scores(tensors["input.preds"], (16, 16)).items():
        torch.testing.assert_close(values, tensors[f"output.image_score.{kind}"], rtol=0, atol=2e-5)


def test_published_metrics(golden):
    """Ours are not turned over where they are below a half; what is published follows from them."""
    record, tensors = golden
    metrics = collect(tensors["input.preds"], tensors["input.masks"] > 0, record["clsnames"]).compute(DistState())
    for row in metrics.classes:
        for kind in ("mean", "std", "max", "pixel"):
            ours = row.values["pixel_auroc" if kind == "pixel" else f"image_auroc_{kind}"]
            name = f"{row.name}_{kind}_auc"
            assert ours == pytest.approx(record["auc_without_the_flip"][name], abs=1e-9)
            assert max(ours, 1 - ours) == pytest.approx(record["metrics"][name], abs=1e-9)
    assert metrics.means["pixel_auroc"] == pytest.approx(
        np.mean([row.values["pixel_auroc"] for row in metrics.classes])
    )
    assert not metrics.notes and set(metrics.means) == set(METRICS)


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(23, 12, 10, generator=generator).mul(20).round().div(20)  # with ties
    masks = torch.zeros(23, 12, 10, dtype=torch.bool)
    for number in range(0, 23, 2):
        y, x = torch.randint(0, 8, (2,), generator=generator).tolist()
        masks[number, y : y + 3, x : x + 2] = True
        masks[number, 0, 9] = True
    return maps + 0.3 * masks, masks, [f"class {number % 3}" for number in range(23)]


def test_aupro_counts_regions_of_all_pictures(pictures):
    maps, masks, _ = pictures
    metrics = collect(maps, masks, ["one"] * 23, (4, 4)).compute(DistState())
    parts = [region_weights(mask.numpy()) for mask in masks]
    count = sum(number for _, number in parts)
    weights = np.concatenate([part for part, _ in parts]) / count
    expected = area(rank(maps[~masks].numpy(), maps[masks].numpy(), weights), 0.3)
    assert metrics.classes[0].values["pixel_aupro"] == pytest.approx(expected, abs=1e-12)
    assert weights.sum() == pytest.approx(1)


def test_neither_order_nor_processes_change_a_bit(pictures, monkeypatch):
    maps, masks, classes = pictures
    alone = collect(maps, masks, classes, (4, 4)).compute(DistState())
    again = collect(maps, masks, classes, (4, 4), order=np.random.default_rng(0).permutation(23).tolist())
    assert again.compute(DistState()) == alone

    shares = [collect(maps, masks, classes, (4, 4), order=list(range(rank, 23, 2))) for rank in range(2)]
    empty = AnomalyResults((4, 4))
    assert run_together(monkeypatch, [*shares, empty]) == [alone] * 3


def run_together(monkeypatch, shares: list[AnomalyResults]) -> list:
    """`compute` of every share at once, as threads that exchange what they gather."""
    import threading

    barrier, box = threading.Barrier(len(shares)), [None] * len(shares)

    def gather(value, dist):
        box[dist.rank] = value
        barrier.wait()
        values = list(box)
        barrier.wait()
        return values

    monkeypatch.setattr("vla.evaluation.anomaly.results.gather_objects", gather)
    found = [None] * len(shares)

    def work(rank: int) -> None:
        found[rank] = shares[rank].compute(DistState(rank=rank, world_size=len(shares)))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found


def test_classes_that_lack_pictures_are_told_and_left_out(pictures):
    maps, masks, _ = pictures
    classes = [
        "no bad" if not mask.any() else "no good" if number < 12 else "both" for number, mask in enumerate(masks)
    ]
    classes[1] = "both"
    metrics = collect(maps, masks, classes, (4, 4)).compute(DistState())
    rows = {row.name: row for row in metrics.classes}
    assert set(rows["no bad"].values.values()) == {None}
    assert rows["no good"].values["image_auroc_max"] is None and rows["no good"].values["pixel_auroc"] > 0.5
    assert metrics.means["image_ap"] == rows["both"].values["image_ap"]
    assert metrics.notes == [
        "no bad: no picture of a defect, so its metrics are left out of the means",
        "no good: no good picture, so its metrics of pictures are left out of the means",
    ]
    only = collect(maps[1::2], masks[1::2], ["good"] * 11, (4, 4)).compute(DistState())
    assert only.means == {} and AnomalyResults((4, 4)).compute(DistState()).classes == []


def test_padding_and_masks_without_pixels(pictures):
    maps, masks, _ = pictures
    results = AnomalyResults((4, 4))
    labels, real = torch.ones(23).long(), torch.arange(23) < 10
    results.add(torch.arange(23), ["one"] * 23, maps, masks, labels, real)
    row = results.compute(DistState()).classes[0]
    assert (row.num_good, row.num_bad) == (5, 5)
    assert row.notes == ["one: 5 pictures of defects whose mask has no pixel left count as good"]


def test_maps_that_are_not_finite(pictures):
    maps, masks, _ = pictures
    broken = maps.clone()
    broken[3, 0, 0] = torch.nan
    row = collect(broken, masks, ["one"] * 23, (4, 4)).compute(DistState()).classes[0]
    assert set(row.values.values()) == {None} and "not finite" in row.notes[0]


def test_memory_is_four_bytes_and_a_bit_per_pixel(pictures):
    maps, masks, classes = pictures
    results = collect(maps, masks, classes, (4, 4))
    kept = [picture for found in results._pictures.values() for picture in found.values()]
    assert sum(picture.values.nbytes + len(picture.mask) for picture in kept) == 23 * 120 * 4 + 23 * 15
    assert all(picture.values.base is None for picture in kept)  # no view of a batch
