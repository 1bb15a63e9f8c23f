"""What the processes of the tests do: `python workers.py FUNCTION ARGUMENT...`, once per process."""

import sys
from pathlib import Path

import toys
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig, FSDPShardGradOpConfig, StrategyConfig
from vla.data.datasets.base import Datasets
from vla.overwatch.distributed import DistState, destroy_distributed, initialize_distributed

STRATEGIES: dict[str, StrategyConfig] = {
    "ddp": DDPConfig(), "fsdp-full-shard": FSDPFullShardConfig(), "fsdp-shard-grad-op": FSDPShardGradOpConfig(),
}  # fmt: skip


def agreement_cases() -> dict[str, tuple[str, dict]]:
    """Name -> strategy and stage: batches of 8 as 1 or 2 micro-batches of each of 2 processes, the last batch uneven."""
    cases = {
        f"{strategy} accumulation {accumulation}": (strategy, {"per_device_batch_size": 4 // accumulation})
        for strategy in STRATEGIES
        for accumulation in (1, 2)
    }
    return cases | {"ddp microbatch": ("ddp", {"per_device_batch_size": 2, "loss_reduction": "microbatch"})}


def agreement_data(name: str) -> Datasets:
    """Of 29 samples the last batch has 5: one process gets 3, the other 2 and a padding sample. A mean of micro-batch
    means depends on how the samples are cut, unless both ways cut them alike.
    """
    return toys.toy_datasets(28 if "microbatch" in name else 29)


def agreement_config(root: Path, name: str, strategy: str, stage: dict):
    return toys.toy_config(root / name.replace(" ", "-"), strategy=STRATEGIES[strategy], **stage)


def train_agreement_cases(dist: DistState, root: str) -> None:
    for name, (strategy, stage) in agreement_cases().items():
        config = agreement_config(Path(root), name, strategy, stage)
        toys.toy_strategy(config, dist, agreement_data(name)).run_training()


if __name__ == "__main__":
    state = initialize_distributed("cpu", group_of_one=True)
    globals()[sys.argv[1]](state, *sys.argv[2:])
    destroy_distributed(state)
