"""Reuse of what frozen module groups compute."""

import pytest
import torch
from toys import WIDTH, metrics, toy_config, toy_datasets, toy_model, toy_strategy

from vla.batches import ActionBatch
from vla.models.base import FeatureSource
from vla.training.feature_cache import FeatureCache, frozen_sources, take


def make_batch(*ids: int) -> ActionBatch:
    size = len(ids)
    return ActionBatch(
        torch.tensor(ids), torch.tensor(ids).reshape(size, 1, 1, 1, 1).float(), [f"task {i % 2}" for i in ids],
        torch.zeros(size, 1, 7), torch.ones(size, 1, dtype=torch.bool),
    )  # fmt: skip


class Counter:
    """A source whose feature of a sample is its number, and that remembers what it was asked for."""

    def __init__(self, by_instruction: bool = False) -> None:
        keys = (lambda batch: batch.instructions) if by_instruction else (lambda batch: batch.sample_ids.tolist())
        self.source = FeatureSource(keys, self.compute)
        self.seen: list[list[int]] = []

    def compute(self, batch: ActionBatch) -> dict[str, torch.Tensor]:
        self.seen.append(batch.sample_ids.tolist())
        return {"g.x": batch.images.reshape(-1, 1).expand(-1, 4)}


def run_source(source: FeatureSource, batch: ActionBatch) -> dict[str, torch.Tensor]:
    return source.compute(batch)


def test_computes_each_sample_once_and_alone():
    counter = Counter()
    cache = FeatureCache({"g": counter.source}, run_source)
    assert cache.fill(make_batch(3, 1, 3), "train").features["g.x"][:, 0].tolist() == [3, 1, 3]
    assert cache.fill(make_batch(1, 2), "train").features["g.x"].tolist() == [[1] * 4, [2] * 4]
    assert counter.seen == [[3], [1], [2]] and cache.num_bytes == 3 * 16
    cache.fill(make_batch(1), "eval")  # another dataset's sample 1
    assert counter.seen[-1] == [1] and cache.num_computed == 4


def test_equal_keys_are_computed_once():
    counter = Counter(by_instruction=True)
    FeatureCache({"g": counter.source}, run_source).fill(make_batch(0, 1, 2, 3), "train")
    assert counter.seen == [[0], [1]]


def test_is_bounded():
    """Room for two samples: the third is computed each time, the first two never again."""
    counter = Counter()
    cache = FeatureCache({"g": counter.source}, run_source, max_bytes=40)
    for _ in range(2):
        assert cache.fill(make_batch(1, 2, 3), "train").features["g.x"][:, 0].tolist() == [1, 2, 3]
    assert counter.seen == [[1], [2], [3], [3]] and cache.num_bytes == 32


def test_gives_up_what_would_not_fit():
    """Of 100 samples, 16 bytes each are too much; of 2 instructions (a quarter of 8 samples) they are not."""
    samples, instructions = Counter(), Counter(by_instruction=True)
    cache = FeatureCache({"a": samples.source, "b": instructions.source}, run_source, max_bytes=500)
    cache.admit(make_batch(*range(8)), num_samples=100)
    assert cache.sources.keys() == {"b"}


def test_processes_keep_each_other_company():
    """Where all must compute together, the one with less to do computes again."""
    counter = Counter()
    cache = FeatureCache({"g": counter.source}, run_source, agree=lambda number: max(number, 3))
    assert cache.fill(make_batch(7, 8), "train").features["g.x"][:, 0].tolist() == [7, 8]
    assert counter.seen == [[7], [8], [7]] and cache.num_computed == 2
    cache.fill(make_batch(7, 8), "train")
    assert len(counter.seen) == 6


def test_take():
    batch = take(make_batch(4, 5, 6), [2, 0])
    assert batch.sample_ids.tolist() == [6, 4] and batch.instructions == ["task 0", "task 0"]
    assert batch.proprio is None and batch.actions.shape == (2, 1, 7)


def test_only_frozen_groups(tmp_path):
    model = toy_model(toy_config(tmp_path / "run"))
    assert frozen_sources(model).keys() == {"vision_backbone", "llm_backbone"}
    model.frozen_groups = frozenset({"llm_backbone"})
    assert frozen_sources(model).keys() == {"llm_backbone"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_training_with_and_without(tmp_path, precision):
    histories, calls = {}, {}
    for enabled in (True, False):
        config = toy_config(tmp_path / str(enabled), precision=precision, cache_frozen_features=enabled, epochs=5)
        strategy = toy_strategy(config)
        strategy.run_training()
        histories[enabled] = [line["train/loss"] for line in metrics(config.run_dir) if "train/loss" in line]
        calls[enabled] = dict(strategy.model.calls)
    assert histories[True] == pytest.approx(histories[False], rel=1e-6 if precision == "fp32" else 2e-2)
    assert calls[True] == {"vision": 28 + 10 + 1, "language": 3 + 3 + 1}  # training and held-out samples, and the probe
    assert calls[False]["vision"] > 5 * 28


def test_features_have_the_bits_of_the_model(tmp_path):
    strategy = toy_strategy(toy_config(tmp_path / "run"))
    batch = next(strategy.feed.windows(strategy.state))[0]
    first, again = (strategy.prepare(batch, "train").features["vision_backbone.tokens"] for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4, WIDTH) and not first.requires_grad
    images = strategy.task.processor.images(batch.images)
    alone = [strategy.model.vision_backbone(image[None, 0])[0] for image in images]
    assert torch.equal(first, torch.stack(alone))


def test_what_is_seen_in_augmented_images_is_not_kept(tmp_path):
    """What is read of instructions still is."""
    data = toy_datasets()
    data.train.augments = True
    strategy = toy_strategy(toy_config(tmp_path / "run"), datasets=data)
    assert strategy.features.sources.keys() == {"llm_backbone"}
    strategy.run_training()
    assert strategy.model.calls["vision"] >= 2 * 28 and strategy.model.calls["language"] == 3 + 3 + 1


def test_images_stay_behind_when_nobody_needs_them(tmp_path):
    strategy = toy_strategy(toy_config(tmp_path / "run"))
    batch = next(strategy.feed.windows(strategy.state))[0]
    assert strategy.prepare(batch, "train").images.dtype == torch.uint8
    assert strategy.task.prepare(batch, "cpu").images.dtype == torch.float32
