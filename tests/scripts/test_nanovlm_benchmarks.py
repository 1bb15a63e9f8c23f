"""What the benchmarks of nanoVLM compare is the same: samples, positions, losses."""

import sys
from typing import Any

import pytest
import torch

from vla.conf.datasets import SHIPPED_DATA
from vla.data.vqa.processor import VQAProcessor

SCRIPTS = SHIPPED_DATA.parents[1] / "scripts"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import bench

    return lambda name: bench.load(bench.find()[name])


def test_every_variant_learns_from_the_same_samples_within_the_same_memory(load: Any) -> None:
    module = load("packed-training")
    length, rows = 160, 3
    config = module.get_config("small", length)
    processor = VQAProcessor.from_config(config)
    samples = module.make_samples(processor, 40, length, 4)
    lengths = [len(sample) for sample in samples]
    for name in (module.PACKED, module.PADDED, module.PUBLISHED):
        batches = module.plan(name, lengths, length, rows)
        assert sorted(key for batch in batches for row in batch for key in row) == list(range(40))
        loaded = list(module.batches_of(name, processor, samples, length, rows))
        assert all(batch.input_ids.numel() <= rows * length for batch in loaded)
        if name == module.PUBLISHED:
            assert {batch.input_ids.shape[1] for batch in loaded} == {length}
    alone = sum(int((sample.labels[1:] >= 0).sum()) for sample in samples)
    assert sum(int((batch.labels[:, 1:] >= 0).sum()) for batch in loaded) == alone


def test_every_way_to_compute_attention_gives_the_same_loss(load: Any) -> None:
    module = load("nanovlm-step")
    found = {name: module.measure(name, "tiny", 256, 2, 1, "fp32", "cpu") for name in list(module.KINDS)[:3]}
    losses = torch.tensor([values["loss"] for values in found.values()])
    assert losses.max() - losses.min() < 1e-5 and found["documents"]["samples"] > 2
