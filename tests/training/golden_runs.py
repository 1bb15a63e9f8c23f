"""The published training traces' model, data and settings, and the published loop written out for runs of one's own."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from vla.batches import IGNORE_INDEX
from vla.conf.datasets import LlavaV15Config
from vla.conf.models.language import LlamaTinyConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import CheckpointConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import ScheduleConfig, Stage
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.strategies.base_strategy import TrainStrategy

GOLDEN = Path(__file__).parents[1] / "golden" / "prismatic"
TRACE = json.loads((GOLDEN / "train_trace.json").read_text())
SEED = 7


def write_data(root: Path) -> LlavaV15Config:
    """The traces' pictures and rows as a dataset below `root`."""
    for name, pixels in load_file(GOLDEN / "train_images.safetensors").items():
        Image.fromarray(pixels.numpy()).save(root / name)
    for stage in ("align", "finetune"):
        (root / f"{stage}.json").write_text(json.dumps(TRACE[f"examples_{stage}"]))
    return LlavaV15Config(
        root=root, align_annotations="align.json", align_images=".", finetune_annotations="finetune.json",
        finetune_images=".",
    )  # fmt: skip


def golden_config(root: Path, run: dict[str, Any]) -> PretrainConfig:
    """A run in `root` as `run`, an entry of the traces, says; the tiny model has the sizes of the traces' one."""
    stage, tiny = Stage(run["stage"]), PrismTinyConfig()
    settings = replace(
        tiny.stage(stage), loss_reduction="microbatch", epochs=run["epochs"], max_steps=run["max_steps"],
        global_batch_size=run["global_batch_size"], per_device_batch_size=run["per_device_batch_size"],
        learning_rate=run["lr"], weight_decay=run["weight_decay"], max_grad_norm=run["max_grad_norm"],
        schedule=ScheduleConfig(warmup_ratio=run["warmup_ratio"], warmup_rule="from_zero"),
    )  # fmt: skip
    model = replace(
        tiny, llm_backbone=LlamaTinyConfig(tokenizer=str(GOLDEN / "tokenizer")),
        arch_specifier=f"no-align+{run['arch']}", **{stage.field_name: settings},
    )  # fmt: skip
    return PretrainConfig(
        model=model, dataset=write_data(root), stage=stage, run_root_dir=root / "runs", run_id="golden",
        seed=run["sampler_seed"], device="cpu", log_every_steps=1, trackers=("jsonl", "prismatic"),
        loader=LoaderConfig(num_workers=0), checkpoint=CheckpointConfig(every_epochs=None),
    )  # fmt: skip


def golden_weights() -> dict[str, Tensor]:
    """Weights that the traces begin with."""
    return {name[3:]: value for name, value in load_file(GOLDEN / "train_dev_init.safetensors").items()}


def train(config: PretrainConfig) -> tuple[TrainStrategy, dict[str, list[float]]]:
    """Run `config` from the golden weights; what is compared, by name."""
    strategy = pretrain.build_strategy(config, DistState())
    strategy.model.load_state_dict(golden_weights())
    strategy.features._store.clear()
    found: dict[str, list[float]] = {"losses": [], "norms": [], "rates": []}
    add_micro_batch, add_step = strategy.monitor.add_micro_batch, strategy.monitor.add_step

    def watch_loss(output: Any, loss: Tensor, weight: float) -> None:
        found["losses"].append(loss.item() / weight)
        add_micro_batch(output, loss, weight)

    def watch_step(norm: float, rate: float, next_rate: float) -> None:
        found["norms"].append(norm)
        found["rates"].append(rate)
        add_step(norm, rate, next_rate)

    strategy.monitor.add_micro_batch, strategy.monitor.add_step = watch_loss, watch_step
    strategy.run_training()
    return strategy, found


def train_as_published(strategy: TrainStrategy, order: Any) -> dict[str, list[float]]:
    """The published loop with the model, data and settings of a strategy that is set up, from the golden weights.

    Args:
        strategy: its model is trained.
        order: epoch -> sample numbers.
    """
    stage, model = strategy.stage, strategy.model
    model.load_state_dict(golden_weights())
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = [parameter for name, parameter in named if parameter.ndim <= 1 or name.endswith(".bias")]
    decayed = [parameter for name, parameter in named if not (parameter.ndim <= 1 or name.endswith(".bias"))]
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.learning_rate)
    dataset, collate = strategy.feed.datasets.train, strategy.feed.datasets.collator
    accumulation = stage.global_batch_size // stage.per_device_batch_size
    total = stage.max_steps or math.ceil(len(dataset) / stage.global_batch_size) * stage.epochs
    schedule = get_cosine_schedule_with_warmup(optimizer, int(total * stage.schedule.warmup_ratio), total)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    found: dict[str, list[float]] = {"losses": [], "norms": [], "rates": []}
    for epoch in range(100 if stage.max_steps else stage.epochs):
        numbers, size = order(epoch), stage.per_device_batch_size
        optimizer.zero_grad()
        for count, start in enumerate(range(0, len(numbers), size), start=1):
            samples = [dataset[number] for number in numbers[start : start + size]]
            loss = _mean_loss(model, strategy.task.prepare(collate(samples), "cpu"))
            found["losses"].append(loss.item())
            (loss / accumulation).backward()
            if count % accumulation:
                continue
            found["norms"].append(nn.utils.clip_grad_norm_(model.parameters(), stage.max_grad_norm).item())
            found["rates"].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if len(found["norms"]) == total:
                return found
    return found


def _mean_loss(model: Any, batch: Any) -> Tensor:
    """As the language model of the original gives it: the mean over the labels of the batch."""
    logits, labels, _ = model(batch, request="published")
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)
