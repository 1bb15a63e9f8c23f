"""nanoVLM in the one loop: the recorded training run, packs against single samples, resumption, text alone."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from llava_files import write_llava
from nanovlm_cases import Case, read_case, read_golden
from toys import stopped_at

from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import OptimizerConfig, ScheduleConfig, Stage, StageConfig
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig
from vla.data.datasets.base import Datasets
from vla.data.vqa.collator import PackCollator
from vla.models.freezing import apply_stage
from vla.models.weights.nanovlm import published_name
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.materialize import get_task, get_train_strategy
from vla.training.metrics import MEASURED
from vla.training.strategies.base_strategy import TrainStrategy
from vla.training.tasks.language import LanguageTask
from vla.training.window import weigh_window

TIMES = ("_time", "_tokens_per_second")  # measured of the machine
TRACES = read_golden("train_trace")["runs"]


class Recorded:
    """A stream of the batches that a trace was made with; its images are normalised already."""

    augments = True  # nothing of it can be kept

    def __init__(self, case: Case, run: dict[str, Any]) -> None:
        self._batches = [case.batch(micro["rows"]) for micro in run["micro"]]
        self.global_batch_size, self.steps_per_epoch = 2 * run["gradient_accumulation_steps"], run["max_training_steps"]
        self.samples_per_epoch = self.global_batch_size * self.steps_per_epoch

    def __len__(self) -> int:
        return self.samples_per_epoch

    def stream(self, *_: Any, **options: Any) -> "Recorded":
        return self

    def set_position(self, epoch: int, step: int) -> None:
        assert (epoch, step) == (0, 0)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def trace_config(case: Case, run: dict[str, Any], folder: Path) -> PretrainConfig:
    rate = run["lr_language_backbone"]
    stage = StageConfig(
        trainable=("vision_backbone", "projector", "llm_backbone"), max_steps=run["max_training_steps"],
        global_batch_size=2 * run["gradient_accumulation_steps"], per_device_batch_size=2, learning_rate=rate,
        lr_multipliers={"projector": run["lr_mp"] / rate, "vision_backbone": run["lr_vision_backbone"] / rate},
        weight_decay=run["adamw"]["weight_decay"], max_grad_norm=run["max_grad_norm"], precision="fp32",
        optimizer=OptimizerConfig(decay_norms_and_biases=True), loss_reduction="microbatch",
        schedule=ScheduleConfig(warmup_ratio=0.03, warmup_rule="next_step", min_lr_ratio=0.1),
    )  # fmt: skip
    return PretrainConfig(
        model=replace(case.config, full_finetune=stage), stage=Stage.FULL_FINETUNE, run_root_dir=folder, device="cpu",
        trackers=("jsonl",), checkpoint=CheckpointConfig(every_epochs=None),
    )  # fmt: skip


@pytest.mark.parametrize("run", TRACES, ids=lambda run: Path(run["case_file"]).stem)
def test_recorded_trace(run: dict[str, Any], tmp_path: Path) -> None:
    """Losses, norms, a learning rate for each module group, and all weights after five steps."""
    case = read_case(Path(run["case_file"]).stem)
    config = trace_config(case, run, tmp_path)
    model = case.model()
    apply_stage(model, config.stage_config)
    strategy = get_train_strategy(config, model, DistState())
    processor = SimpleNamespace(pixels=lambda pixels: pixels)
    strategy.run_setup(LanguageTask(processor), Datasets(Recorded(case, run), None, None, processor))  # type: ignore[arg-type]
    losses, norms, rates = watch(strategy)
    for window in strategy.feed.windows(strategy.state):
        strategy.model.train()
        strategy.train_step(window, weigh_window(strategy.task, window, "microbatch", False, DistState()))
        strategy.state.advance()
    steps = [micro for micro in run["micro"] if micro["grad_norm"] is not None]
    assert losses == pytest.approx([micro["batch_loss"] for micro in run["micro"]], abs=1e-5)
    assert norms == pytest.approx([micro["grad_norm"] for micro in steps], abs=1e-4)
    assert rates == [pytest.approx(micro["lrs"], rel=1e-9) for micro in steps]
    tensors = {published_name(name): value for name, value in strategy.model.state_dict().items()}
    for name, sums in run["final_param_sum_and_abs_sum"].items():
        if not name.endswith("inv_freq"):
            value = tensors.pop(name).double()
            assert [value.sum().item(), value.abs().sum().item()] == pytest.approx(sums, abs=2e-3, rel=1e-5), name
    assert not tensors


def watch(strategy: TrainStrategy) -> tuple[list[float], list[float], list[list[float]]]:
    """Losses of micro-batches, norms, and the learning rates of (projector, vision, language), as they come."""
    losses: list[float] = []
    norms: list[float] = []
    rates: list[list[float]] = []

    def micro(output: Any, loss: torch.Tensor, weight: float) -> None:
        losses.append(loss.item() / weight)

    def step(norm: float, *_: float) -> None:
        norms.append(norm)
        by_group = {group["module_group"]: group["lr"] for group in strategy.optimizer.param_groups}
        rates.append([by_group[name] for name in ("projector", "vision_backbone", "llm_backbone")])

    strategy.monitor.add_micro_batch, strategy.monitor.add_step = micro, step  # type: ignore[method-assign]
    return losses, norms, rates


PACKING = PackingConfig(buffer_size=8, streams=1)


def run_config(folder: Path, run_id: str = "a", steps: int = 4, packing: PackingConfig = PACKING, **values: Any) -> Any:
    """A run of the tiny model on packed rows of colours and sums."""
    data = LlavaVQAConfig(
        root=write_llava(folder / "data").root, validation_annotations=None, validation_fraction=0.25, packing=packing
    )
    tiny = NanoVLMTinyConfig()
    stage = replace(tiny.full_finetune, max_steps=steps)
    return PretrainConfig(
        model=replace(tiny, full_finetune=stage), dataset=data, stage=Stage.FULL_FINETUNE, run_id=run_id,
        run_root_dir=folder / "runs", device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=values.pop("num_workers", 0)), evaluation=EvaluationConfig(every_steps=2),
        checkpoint=CheckpointConfig(every_steps=2, every_epochs=None), report=False, **values,
    )  # fmt: skip


def metrics(config: PretrainConfig) -> list[dict[str, float]]:
    lines = (config.run_dir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in row if key not in MEASURED and not key.endswith(TIMES)} for row in rows]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_gives_the_numbers_of_one_that_was_not_stopped(num_workers: int, tmp_path: Path) -> None:
    """Interrupted between two log entries: what was averaged and counted by then is in the next one."""
    whole = replace(run_config(tmp_path, "whole"), log_every_steps=3)
    assert pretrain.run(whole) == 0
    first = replace(run_config(tmp_path, "parts", steps=4, num_workers=num_workers), log_every_steps=3)
    with stopped_at(2):
        pretrain.run(first)
    assert pretrain.run(replace(first, resume="auto")) == 0
    assert metrics(first) == metrics(whole)
    assert any("training_stats/avg_images_per_sample" in row for row in metrics(whole))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_stopped_between_two_saves_leaves_no_step_out(num_workers: int, tmp_path: Path) -> None:
    """The stop is noticed when the next step's packs are there already: they must come again."""
    rarely = {"evaluation": EvaluationConfig(every_epochs=None), "checkpoint": CheckpointConfig(every_epochs=None)}
    whole = replace(run_config(tmp_path, "whole"), **rarely)
    assert pretrain.run(whole) == 0
    parts = replace(run_config(tmp_path, "parts", num_workers=num_workers), **rarely)
    strategy = pretrain.build_strategy(parts, DistState())
    advance = strategy.state.advance

    def advance_and_be_stopped() -> None:
        advance()
        if strategy.state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    strategy.state.advance = advance_and_be_stopped  # type: ignore[method-assign]
    assert strategy.run_training().reason == "SIGTERM"
    assert pretrain.run(replace(parts, resume="auto")) == 0
    assert metrics(parts) == metrics(whole)


def test_the_same_samples_give_the_same_losses_packed_and_alone(tmp_path: Path) -> None:
    """From files through the collator to the model: every sample's losses to 1e-5, with pictures and without."""
    config = run_config(tmp_path)
    strategy = pretrain.build_strategy(config, DistState())
    data, model = strategy.feed.datasets, strategy.model.eval()
    task = get_task(config.model, data.processor)
    collate: Any = PackCollator(data.processor)
    packs = [data.validation[number] for number in range(len(data.validation))]  # type: ignore[arg-type,index]
    assert any(len(pack["samples"]) > 2 for pack in packs)
    for pack in packs:
        batch: Any = task.prepare(collate([pack]), "cpu")
        packed = model(batch)
        for number, sample in enumerate(pack["samples"]):
            alone: Any = model(task.prepare(collate([{"samples": [sample]}]), "cpu"))
            mine = packed.token_loss[packed.token_row == number]
            torch.testing.assert_close(mine, alone.token_loss, rtol=0, atol=1e-5)
        together = model(replace(batch, segments=None, position_ids=torch.arange(batch.input_ids.shape[1])[None]))
        assert len(pack["samples"]) == 1 or not torch.allclose(together.token_loss, packed.token_loss, atol=1e-5)


@pytest.mark.parametrize(
    "packing", [replace(PACKING, algorithm="published", num_sequences=2, cross_document_attention=True),
                replace(PACKING, algorithm="none")], ids=lambda packing: packing.algorithm,
)  # fmt: skip
def test_other_ways_to_pack_train_too(packing: PackingConfig, tmp_path: Path) -> None:
    config = run_config(tmp_path, packing=packing)
    assert pretrain.run(config) == 0
    assert [row["global_step"] for row in metrics(config) if "train/loss" in row] == [1, 2, 3, 4]


def test_a_run_in_bf16(tmp_path: Path) -> None:
    """Weights stay float32; losses are near those of float32."""
    losses = {}
    for precision in ("fp32", "bf16"):
        config = run_config(tmp_path, precision, steps=2)
        config = replace(
            config, model=replace(config.model, full_finetune=replace(config.stage_config, precision=precision))
        )
        strategy = pretrain.build_strategy(config, DistState())
        strategy.run_training()
        assert all(value.dtype == torch.float32 for value in strategy.model.parameters())
        losses[precision] = [row["train/loss"] for row in metrics(config) if "train/loss" in row]
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_a_learning_rate_of_zero_freezes_a_group(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    stage = replace(config.stage_config, lr_multipliers={"vision_backbone": 0.0, "projector": 5.0})
    config = replace(config, model=replace(config.model, full_finetune=stage))
    strategy = pretrain.build_strategy(config, DistState())
    groups = {group["module_group"]: group["initial_lr"] for group in strategy.optimizer.param_groups}
    assert groups == {"projector": pytest.approx(5e-3), "llm_backbone": pytest.approx(1e-3)}
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    strategy.run_training()
    changed = {name.partition(".")[0] for name, value in strategy.model.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"projector", "llm_backbone"}


def test_the_tiny_model_learns_colours(tmp_path: Path) -> None:
    config = run_config(tmp_path, steps=60)
    stage = replace(config.stage_config, learning_rate=3e-3)
    every = {"evaluation": EvaluationConfig(every_epochs=None), "checkpoint": CheckpointConfig(every_epochs=None)}
    config = replace(config, model=replace(config.model, full_finetune=stage), **every)
    assert pretrain.run(config) == 0
    losses = [row["train/loss"] for row in metrics(config) if "train/loss" in row]
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
