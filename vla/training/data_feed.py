"""From datasets to the micro-batches of every optimizer step, starting at any step."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from vla.batches import Batch
from vla.conf.pretrain import PretrainConfig
from vla.data.loader import get_dataloader
from vla.data.materialize import Datasets
from vla.data.samplers import DistributedSampler, ResumableSampler, SplitModalitySampler
from vla.errors import UserError
from vla.overwatch.distributed import DistState
from vla.training.metrics import StepClock
from vla.training.seeding import preserved_rng
from vla.training.state import TrainerState

PROBE_SAMPLES = 8


def get_sampler(dataset: Any, config: PretrainConfig, dist: DistState) -> Any:
    """The sampler of a training run; data that comes as a stream of batches gives one that is its own loader.

    `SplitModalitySampler` (no step mixes samples with and without images) where the dataset can tell them apart and
    `loader.split_modality` asks for it: always, or auto in a finetune stage; else `DistributedSampler`.
    """
    stage, loader = config.stage_config, config.loader
    if hasattr(dataset, "stream"):
        return dataset.stream(
            dist, global_batch_size=stage.global_batch_size, batch_size=stage.per_device_batch_size, seed=config.seed,
            max_steps=stage.max_steps, num_workers=loader.num_workers, prefetch_factor=loader.prefetch_factor,
            pin_memory=dist.device.startswith("cuda"),
        )  # fmt: skip
    options: dict[str, Any] = {
        "global_batch_size": stage.global_batch_size, "rank": dist.rank, "world_size": dist.world_size,
        "seed": config.seed,
    }  # fmt: skip
    choice = config.loader.split_modality
    if choice == "always" or (choice == "auto" and "finetune" in config.stage.value):
        if hasattr(dataset, "modality_lengths"):
            return SplitModalitySampler(dataset.modality_lengths(), **options)
    return DistributedSampler(len(dataset), **options)


class DataFeed:
    """The batches of a run for one process; all processes get equally many. A context: leaving it stops the workers.

    Args:
        datasets: what to read.
        config: the run.
        dist: this process.
        clock: is told how long the loop waited.
    """

    def __init__(self, datasets: Datasets, config: PretrainConfig, dist: DistState, clock: StepClock) -> None:
        self.datasets, self._config, self._dist, self._clock = datasets, config, dist, clock
        try:
            self._accumulation = config.stage_config.grad_accumulation_steps(dist.world_size)
        except ValueError as error:
            raise UserError(f"model.{config.stage.field_name}.{error}") from None
        self.sampler = get_sampler(datasets.train, config, dist)
        self._loaders: dict[str, Any] = {}  # with worker processes, which stay from epoch to epoch

    def __enter__(self) -> "DataFeed":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the worker processes at once; left to the garbage collector they would take seconds to notice."""
        if hasattr(self.sampler, "close"):
            self.sampler.close()
        self._loaders.clear()

    def _make_loader(self, dataset: Any, sampler: ResumableSampler) -> DataLoader:
        config = self._config
        return get_dataloader(
            dataset, sampler, self.datasets.collator, batch_size=config.stage_config.per_device_batch_size,
            num_workers=config.loader.num_workers, prefetch_factor=config.loader.prefetch_factor, seed=config.seed,
            pin_memory=self._dist.device.startswith("cuda"),
        )  # fmt: skip

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last one may have fewer samples."""
        return self.sampler.steps_per_epoch

    @property
    def holds_out(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.datasets.validation is not None and len(self.datasets.validation) > 0

    @property
    def has_evaluated(self) -> bool:
        """Whether held-out data is being read already."""
        return "eval" in self._loaders

    def samples_in_step(self, step_in_epoch: int) -> int:
        """Samples of an optimizer step, all processes together, without padding."""
        size = self.sampler.global_batch_size
        return min(size, self.sampler.samples_per_epoch - step_in_epoch * size)

    def windows(self, state: TrainerState) -> Iterator[list[Batch]]:
        """The micro-batches of every optimizer step from `state` to the end of the run.

        The loop advances `state` between two windows.
        """
        if "train" not in self._loaders:
            streams = hasattr(self.datasets.train, "stream")
            self._loaders["train"] = self.sampler if streams else self._make_loader(self.datasets.train, self.sampler)
        while not state.finished:
            self.sampler.set_position(state.epoch, state.step_in_epoch)
            with preserved_rng(), self._clock.waiting():  # making an iterator draws a number; a resumed run makes more
                batches = iter(self._loaders["train"])
            while True:
                with self._clock.waiting():
                    window = list(islice(batches, self._accumulation))
                if not window:
                    break
                yield window
                if state.finished:
                    return
            if state.step_in_epoch:
                raise RuntimeError(f"the data ended at step {state.step_in_epoch} of {self.steps_per_epoch}")

    def give_back(self) -> None:
        """The window that was given last will not be used. Others than streams are placed by the run's own position."""
        if hasattr(self.sampler, "give_back"):
            self.sampler.give_back()

    def evaluation_batches(self) -> Iterator[Batch]:
        """Held-out data: all of it, or the same `evaluation.max_batches` global batches each time."""
        limit, dataset = self._config.evaluation.max_batches, self.datasets.validation
        if dataset is not None and "eval" not in self._loaders:
            sampler = DistributedSampler(
                len(dataset), shuffle=limit is not None, seed=self._config.seed, rank=self._dist.rank,
                world_size=self._dist.world_size, global_batch_size=self.sampler.global_batch_size,
            )  # fmt: skip
            self._loaders["eval"] = self._make_loader(dataset, sampler)
        with preserved_rng():
            batches = iter(self._loaders["eval"])
        yield from islice(batches, None if limit is None else limit * self._accumulation)

    def probe(self) -> Batch:
        """The first few training samples, in the order of the dataset."""
        dataset = self.datasets.train
        sampler = DistributedSampler(len(dataset), global_batch_size=PROBE_SAMPLES, shuffle=False)
        loader = get_dataloader(
            dataset, sampler, self.datasets.collator, batch_size=PROBE_SAMPLES, seed=self._config.seed
        )
        with preserved_rng():
            return next(iter(loader))
