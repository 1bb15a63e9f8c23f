"""What the processes of the tests do: `python workers.py FUNCTION[+FUNCTION...] ARGUMENT...`, once per process."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from llava_files import write_llava
from nanovlm_runs import nanovlm_config
from openvla_runs import OPENVLA_CASES, openvla_config
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from uniad_runs import UNIAD_CASES, uniad_config

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig, FSDPShardGradOpConfig, StrategyConfig
from vla.data.datasets.base import Datasets
from vla.overwatch.distributed import DistState, barrier, destroy_distributed, initialize_distributed
from vla.training import pretrain
from vla.training.checkpoint_store import CheckpointStore
from vla.training.materialize import get_task, get_train_strategy
from vla.training.strategies.fsdp import RUNS_ON_CPU

STRATEGIES: dict[str, StrategyConfig] = {
    "ddp": DDPConfig(), "fsdp-full-shard": FSDPFullShardConfig(), "fsdp-shard-grad-op": FSDPShardGradOpConfig(),
}  # fmt: skip
RESUMED = [name for name in STRATEGIES if name != "fsdp-shard-grad-op"]


def runs_here(case: str) -> bool:
    """Whether a strategy, or a case named after one, runs on this machine; tests of the others are skipped."""
    return RUNS_ON_CPU or not case.startswith("fsdp")


def skip_unless_it_runs(case: str) -> None:
    """Skip the test of a case that does not run here, and say why."""
    if not runs_here(case):
        pytest.skip(f"FSDP on a CPU needs a newer PyTorch than {torch.__version__}")


def agreement_cases() -> dict[str, tuple[str, dict]]:
    """Name -> strategy and stage: batches of 8 as 1 or 2 micro-batches of each of 2 processes, the last one uneven."""
    cases = {
        f"{strategy} accumulation {accumulation}": (strategy, {"per_device_batch_size": 4 // accumulation})
        for strategy in STRATEGIES
        for accumulation in (1, 2)
    }
    cases |= {f"{strategy} without cache": (strategy, {"cache_frozen_features": False}) for strategy in RESUMED}
    return cases | {"ddp microbatch": ("ddp", {"per_device_batch_size": 2, "loss_reduction": "microbatch"})}


def agreement_data(name: str) -> Datasets:
    """Of 29 samples the last batch has 5: one process gets 3, the other 2 and a padding sample. A mean of micro-batch
    means depends on how the samples are cut, unless both ways cut them alike.
    """
    return toys.toy_datasets(28 if "microbatch" in name else 29)


def agreement_config(root: Path, name: str, strategy: str, stage: dict) -> PretrainConfig:
    config = toys.toy_config(root / name.replace(" ", "-"), strategy=STRATEGIES[strategy], **stage)
    return replace(config, checkpoint=CheckpointConfig(every_steps=3, keep_last=9))


def train_agreement_cases(dist: DistState, root: str) -> None:
    for name, (strategy, stage) in agreement_cases().items():
        if not runs_here(strategy):
            continue
        config = agreement_config(Path(root), name, strategy, stage)
        toys.toy_strategy(config, dist, agreement_data(name)).run_training()


def go_on_as_two(dist: DistState, root: str) -> None:
    """Two processes go on in the middle of an epoch where one process, `single-global`, stood."""
    checkpoint = CheckpointStore(Path(root) / "single-global").path(3)
    for strategy in filter(runs_here, STRATEGIES):
        config = agreement_config(Path(root), f"{strategy} goes on", strategy, {})
        toys.toy_strategy(config, dist, agreement_data(""), resume_from=checkpoint).run_training()


ATLAS_CASES = {
    f"{strategy} accumulation {accumulation}": (strategy, accumulation)
    for strategy in RESUMED
    for accumulation in (1, 2)
}


def atlas_config(root: Path, name: str, strategy: str = "ddp", micro_batch: int = 32) -> PretrainConfig:
    """vggt-tiny, all of it, on a demonstration of libero-mini: batches of 32 and a last one that is smaller."""
    tiny = VGGTTinyConfig()
    stage = replace(
        tiny.full_finetune, epochs=1, max_steps=None, global_batch_size=32, precision="fp32",
        per_device_batch_size=micro_batch, strategy=STRATEGIES[strategy],
    )  # fmt: skip
    task = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")
    return PretrainConfig(
        model=replace(tiny, full_finetune=stage, processor=replace(tiny.processor, image_size=56)),
        dataset=LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), stage=Stage.FULL_FINETUNE,
        run_root_dir=root, run_id=name.replace(" ", "-"), device="cpu", log_every_steps=1,
        trackers=("jsonl",), loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(max_batches=1),
    )  # fmt: skip


def train_atlas(dist: DistState, root: str) -> None:
    for name, (strategy, accumulation) in ATLAS_CASES.items():
        if not runs_here(strategy):
            continue
        pretrain.train(atlas_config(Path(root), name, strategy, 16 // accumulation), dist)


LANGUAGE_CASES = {
    f"{strategy} {batches} accumulation {accumulation}": (strategy, batches, accumulation)
    for strategy in RESUMED
    for batches in ("pure", "mixed")
    for accumulation in (1, 2)
}


def language_config(
    root: Path, name: str, batches: str, strategy: str = "ddp", micro_batch: int = 8, **stage: object
) -> PretrainConfig:
    """prism-tiny, all of it. Batches of 8: all with an image or all without one (pure), or some (mixed)."""
    tiny = PrismTinyConfig(arch_specifier="no-align+gelu-mlp")
    settings = replace(
        tiny.full_finetune, epochs=2, global_batch_size=8, per_device_batch_size=micro_batch, learning_rate=3e-3,
        strategy=STRATEGIES[strategy], **stage,
    )  # fmt: skip
    split = {"pure": "always", "mixed": "never"}[batches]
    return PretrainConfig(
        model=replace(tiny, full_finetune=settings), dataset=write_llava(root / "data"), stage=Stage.FULL_FINETUNE,
        run_root_dir=root, run_id=name.replace(" ", "-"), device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0, split_modality=split), evaluation=EvaluationConfig(),
    )  # fmt: skip


def train_language(dist: DistState, root: str) -> None:
    for name, (strategy, batches, accumulation) in LANGUAGE_CASES.items():
        if runs_here(strategy):
            pretrain.train(language_config(Path(root), name, batches, strategy, 4 // accumulation), dist)


NANOVLM_CASES = {
    f"{strategy} {algorithm}": (strategy, algorithm) for strategy in RESUMED for algorithm in ("best-fit", "none")
}


def train_nanovlm(dist: DistState, root: str) -> None:
    for name, (strategy, algorithm) in NANOVLM_CASES.items():
        if runs_here(strategy):
            config = nanovlm_config(Path(root), name, algorithm, dist.world_size, STRATEGIES[strategy])
            pretrain.train(config, dist)


def resume_config(root: str, name: str, strategy: str) -> PretrainConfig:
    return toys.resumable_config(Path(root) / f"{name}-{strategy}", workers=1, strategy=STRATEGIES[strategy])


def resume(dist: DistState, root: str) -> None:
    """Straight runs, and runs that break in the middle of an epoch and are resumed."""
    for strategy in filter(runs_here, RESUMED):
        toys.toy_strategy(resume_config(root, "straight", strategy), dist).run_training()
        broken = resume_config(root, "broken", strategy)
        trainer = toys.toy_strategy(broken, dist)
        toys.stop_at(trainer, 6)
        try:
            trainer.run_training()
        except KeyboardInterrupt:
            pass
        barrier(dist)
        resumed = toys.toy_strategy(broken, dist, resume_from=CheckpointStore(broken.run_dir).path(6))
        resumed.run_training()


def precisions(dist: DistState, root: str) -> None:
    """Mixed precision, with parts of a unit frozen."""
    for strategy in filter(runs_here, STRATEGIES):
        for precision in ("bf16", "fp16"):
            stage = {"strategy": STRATEGIES[strategy], "precision": precision, "per_device_batch_size": 2}
            trainer = toys.toy_strategy(toys.toy_config(Path(root) / f"{strategy}-{precision}", **stage), dist)
            trainer.run_training()


def mixed_unit(dist: DistState, root: str) -> None:
    """A unit in which some parameters train and some don't."""
    for strategy in filter(runs_here, STRATEGIES):
        config = toys.toy_config(Path(root) / f"mixed-{strategy}", strategy=STRATEGIES[strategy])
        model = toys.toy_model(config)
        model.fusion[0][0].weight.requires_grad_(False)
        data = toys.toy_datasets()
        trainer = get_train_strategy(config, model, dist)
        trainer.run_setup(get_task(config.model, data.processor), data)
        trainer.run_training()


def count_synchronisations(dist: DistState, root: str) -> None:
    """Gradient reductions of DDP in a run of 8 steps of 2 micro-batches, the last of an epoch with 1."""
    config = toys.toy_config(Path(root) / "count", per_device_batch_size=2)
    trainer = toys.toy_strategy(config, dist)
    buckets = 0

    def count(state: None, bucket: GradBucket) -> Future[Tensor]:
        nonlocal buckets
        buckets += bucket.is_last()
        return allreduce_hook(None, bucket)

    trainer._replica.register_comm_hook(None, count)
    trainer.run_training()
    (Path(root) / f"count-{dist.rank}").write_text(str(buckets))


def count_reductions(dist: DistState, root: str) -> None:
    """Gradient reductions of FSDP in the same run: one of each unit that trains."""
    if not runs_here("fsdp-full-shard"):
        return
    names = ("reduce_scatter_single", "reduce_scatter_tensor")  # of the newer PyTorch, and of the older
    name = next(name for name in names if hasattr(torch.distributed, name))
    reduce, reductions = getattr(torch.distributed, name), []
    setattr(torch.distributed, name, lambda *args, **kwargs: reductions.append(1) or reduce(*args, **kwargs))
    stage = {"per_device_batch_size": 2, "strategy": STRATEGIES["fsdp-full-shard"]}
    toys.toy_strategy(toys.toy_config(Path(root) / "count-fsdp", **stage), dist).run_training()
    setattr(torch.distributed, name, reduce)
    (Path(root) / f"count-fsdp-{dist.rank}").write_text(str(len(reductions)))


def average_weights(dist: DistState, root: str) -> None:
    """The example strategy; its weights are the same everywhere after the last step."""
    sys.path.append(str(Path(__file__).parents[2] / "experiments"))
    from custom_strategy import LocalSGDConfig

    trainer = toys.toy_strategy(toys.toy_config(Path(root) / "local", strategy=LocalSGDConfig(average_every=2)), dist)
    trainer.run_training()
    save_file({name: p.detach() for name, p in trainer.model.named_parameters()}, Path(root) / f"local-{dist.rank}")


def train_uniad(dist: DistState, root: str) -> None:
    for name, (strategy, stage, per_device, cache) in UNIAD_CASES.items():
        if runs_here(strategy):
            pretrain.train(uniad_config(Path(root), name, STRATEGIES[strategy], stage, per_device, cache), dist)


def train_openvla(dist: DistState, root: str) -> None:
    for name, (kind, strategy, per_device) in OPENVLA_CASES.items():
        if runs_here(strategy):
            pretrain.train(openvla_config(Path(root), name, kind, STRATEGIES[strategy], per_device), dist)


if __name__ == "__main__":
    state = initialize_distributed("cpu")
    for function in sys.argv[1].split("+"):
        globals()[function](state, *sys.argv[2:])
    destroy_distributed(state)
