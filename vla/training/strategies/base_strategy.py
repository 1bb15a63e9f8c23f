"""`TrainStrategy`: the one training loop, one process as it stands; a parallelism fills `StrategyHooks`."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vla.batches import Batch
from vla.data.materialize import Datasets
from vla.errors import UserError
from vla.models.base import FeatureSource
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import gather_objects
from vla.training.background_evaluation import BackgroundEvaluation
from vla.training.checkpoint import restore_checkpoint
from vla.training.checkpoint_store import CheckpointStore
from vla.training.compilation import compile_blocks
from vla.training.data_feed import DataFeed
from vla.training.early_stopping import BestMetric
from vla.training.feature_cache import FeatureCache, frozen_sources, keep_on_disk
from vla.training.intervals import Interval
from vla.training.metrics import StepClock
from vla.training.monitor import Monitor
from vla.training.nonfinite import NonFiniteGuard
from vla.training.optim import freeze_multiplied_by_zero, get_optimizer, lr_scale, parameter_owners
from vla.training.precision import LossScaler, autocast_context
from vla.training.result import FINISHED, TrainingResult
from vla.training.saving import Saver
from vla.training.schedules import get_schedule, set_learning_rate
from vla.training.seeding import preserved_rng, seed_everything
from vla.training.signals import SCHEDULERS, StopSignals
from vla.training.state import TrainerState
from vla.training.statistics import FORWARD_BACKWARD, POST_PROCESS
from vla.training.strategies.hooks import StrategyHooks
from vla.training.tasks.base import Task, TaskOutput
from vla.training.utilisation import get_utilisation
from vla.training.window import WindowWeights, weigh_window

overwatch = initialize_overwatch(__name__)

MicroResult = tuple[TaskOutput, Tensor, float]  # of a micro-batch: what it gave, its loss as optimised, its weight


class TrainStrategy(StrategyHooks):
    """Trains a model. Subclasses spread it over processes by overriding `StrategyHooks`, never the loop.

    Args:
        config: the run; `config.stage_config` holds its hyper-parameters.
        model: stage applied: frozen groups are frozen.
        dist: this process.
    """

    # ---------------------------------------------------------------- set-up

    def run_setup(self, task: Task, datasets: Datasets, resume_from: Path | None = None) -> None:
        """Make everything that training needs, and go to where `resume_from` was written.

        Raises:
            UserError: the settings don't fit the number of processes, nothing trains, or the checkpoint is of
                another run.
        """
        config, stage, dist = self.config, self.stage, self.dist
        self.task = task
        seed_everything(config.seed, dist.rank)
        freeze_multiplied_by_zero(self.model, stage)
        self.owners = parameter_owners(self.model)
        if stage.gradient_checkpointing:
            self.model.set_gradient_checkpointing(True)
        if stage.compile:
            compile_blocks(self.model)
        self.wrap_model()
        self.optimizer = get_optimizer(self.model, stage, self.owners, dist.world_size)
        self.scaler = LossScaler(enabled=stage.precision == "fp16")
        clock = StepClock()
        self.feed = DataFeed(datasets, config, dist, clock)
        steps_per_epoch = self.feed.steps_per_epoch
        self.state = TrainerState(stage.max_steps or stage.epochs * steps_per_epoch, steps_per_epoch)
        self.schedule = get_schedule(stage.schedule, self.state.total_steps, steps_per_epoch)
        self.guard = NonFiniteGuard(config.run_dir, stage.max_nonfinite_steps, dist, self.state)
        self.monitor = Monitor(config, dist, self.state, clock, measures=hasattr(task, "measure"))
        self.background = BackgroundEvaluation(config, self.state, self.monitor.metrics_file, is_main=dist.is_main)
        self.best = BestMetric(config.evaluation)
        self.store = CheckpointStore(config.run_dir, config.checkpoint)
        if resume_from is not None:
            restore_checkpoint(self, resume_from)
        self.saver = Saver(self, self.state.global_step if resume_from is not None else None)
        if dist.is_main:
            self.store.rewind(self.state.global_step)
        self.features = self._get_feature_cache(datasets)
        self.monitor.utilisation = get_utilisation(config, dist, self.features.sources)

    def _get_feature_cache(self, datasets: Datasets) -> FeatureCache:
        sources = frozen_sources(self.model) if self.stage.cache_frozen_features else {}
        if getattr(datasets.train, "augments", False):  # the same sample looks another way in every epoch
            sources = {name: source for name, source in sources.items() if not source.sees_images}
        agree = self._largest_of_all if self.shards_parameters else None
        limit = int(self.config.feature_cache.memory_gb * 2**30)
        cache = FeatureCache(sources, self._compute_features, agree, max_bytes=limit)
        if cache.sources:
            with preserved_rng():
                batch = self.feed.probe()
                if self.config.feature_cache.dir is not None:
                    keep_on_disk(cache, self.model, datasets, batch, self.config)
                cache.admit(batch, len(datasets.train))
        return cache

    # ---------------------------------------------------------------- the loop

    def run_training(self) -> TrainingResult:
        """Train until the steps are done, early stopping ends it, or a signal asks for a stop.

        Raises:
            NonFiniteError: losses or gradients were not finite for too many steps in a row; nothing was learnt from
                them.
        """
        reason = "completed"
        self.model.train()
        with StopSignals() as signals, self.monitor, self.feed, self.background, self.saver:
            for window in self.feed.windows(self.state):
                weights = weigh_window(self.task, window, self.stage.loss_reduction, signals.stop_requested, self.dist)
                if weights.stop:  # a signal to any process reaches all of them at the same step
                    reason = signals.received or "a signal to another process"
                    self.feed.give_back()
                    self.saver.save()
                    break
                self.train_step(window, weights)
                self.state.advance()
                self.monitor.log_when_due(self._counters())
                self.save_when_due(improved=self.evaluate_when_due())
                self.evaluate_in_background()
                if self.best.should_stop:
                    reason = "early stopping"
                    break
            if reason in FINISHED:
                self.saver.finish()
                self.background.wait(lambda: signals.stop_requested, self.dist)
            self.monitor.write_found(self.background.found())
        if reason in FINISHED and signals.received in SCHEDULERS:  # too late to stop the training, not what follows
            reason = signals.received
        newest = self.store.newest() if self.dist.is_main else None
        step, best = self.state.global_step, self.store.best()
        return TrainingResult(step, reason, self.best.value, best, newest, self.saver.error)

    def train_step(self, window: list[Batch], weights: WindowWeights) -> None:
        """One optimizer step on the micro-batches of `window`, as loaded."""
        with self.monitor.clock.working(self.feed.samples_in_step(self.state.step_in_epoch)):
            set_learning_rate(self.optimizer, self.schedule(self.state.global_step))
            if weights.total:
                with self.monitor.statistics.phase(FORWARD_BACKWARD):
                    results = self.accumulate(window, weights)
                with self.monitor.statistics.phase(POST_PROCESS):
                    self.update(window, results)
                self.monitor.add_window(self.task, window)
            else:  # nothing but padding and masked values: there is no mean of nothing
                self.state.skipped_steps += 1
                overwatch.warning(f"step {self.state.global_step}: no value to learn from, skipped")

    def accumulate(self, window: list[Batch], weights: WindowWeights) -> list[MicroResult]:
        """Forward and backward passes of a window. Gradients become those of the mean over the global batch."""
        results = []
        scale = self.dist.world_size / weights.total  # the processes' gradients are averaged, not summed
        for number, (loaded, share, count) in enumerate(zip(window, weights.shares, weights.counts, strict=True)):
            batch = self.prepare(loaded, "train")
            with self.forward_context(sync=number == len(window) - 1):
                with self.autocast():
                    output = self.forward(batch)
                result = self.task.loss(output, batch)
                loss = result.loss_sum * share
                self.backward(loss * scale)
            results.append((replace(result, loss_sum=loss.detach()), loss.detach(), count))  # no graph is kept
        return results

    def update(self, window: list[Batch], results: list[MicroResult]) -> None:
        """Clip, step, and start the next accumulation. All processes decide alike whether the step is taken."""
        norm = self.clip_grad_norm(self.stage.max_grad_norm)
        losses = [loss for _, loss, _ in results]
        finite_loss, finite_gradient = self.guard.agree(losses, norm)
        if not finite_loss or not (finite_gradient or self.scaler.may_overflow):
            self.optimizer.zero_grad(set_to_none=True)
            self.guard.skipped(window, losses, norm)
            return
        if finite_gradient:
            self.optimizer_step()
            self.guard.taken()
        else:
            self.state.overflow_steps += 1
        for result in results:
            self.monitor.add_micro_batch(*result)
        self.scaler.update(overflow=not finite_gradient)
        self.optimizer.zero_grad(set_to_none=True)
        step, base = self.state.global_step, self.base_learning_rate
        self.monitor.add_step(norm, base * self.schedule(step), base * self.schedule(step + 1))

    def prepare(self, batch: Batch, scope: str) -> Batch:
        """A batch as loaded, with cached features, on the device as the model takes it. `scope`: train | eval."""
        return self.task.prepare(self.features.fill(batch, scope), self.dist.device)

    @property
    def base_learning_rate(self) -> float:
        """That of a module group with multiplier 1 where the schedule's factor is 1."""
        return self.stage.learning_rate * lr_scale(self.stage.lr_scaling, self.dist.world_size)

    def autocast(self) -> AbstractContextManager:
        """The numeric precision of the stage."""
        return autocast_context(self.stage.precision, self.dist.device)

    @torch.no_grad()
    def _compute_features(self, source: FeatureSource, batch: Batch) -> dict[str, Tensor]:
        device = self.dist.device  # images that nobody looks at may be empty: see `FeatureCache.keep_on_disk`
        prepared = self.task.prepare(batch, device) if source.sees_images else batch.to(device)
        with self.autocast():
            return self.call(source.compute, prepared)

    def _largest_of_all(self, number: int) -> int:
        return max(gather_objects(number, self.dist))

    def _counters(self) -> dict[str, float]:
        counts = {"skipped_steps": self.state.skipped_steps, "nonfinite_steps": self.state.nonfinite_steps}
        skipped = {name: float(count) for name, count in counts.items() if count}
        if not self.scaler.enabled:
            return skipped
        return {"loss_scale": self.scaler.value, "overflow_steps": self.state.overflow_steps, **skipped}

    # ---------------------------------------------------------------- evaluating and saving

    def evaluate_when_due(self) -> bool:
        """Evaluate and write the metrics, if it is time to; returns whether they are the best so far."""
        due = Interval(self.config.evaluation.every_steps, self.config.evaluation.every_epochs).due(self.state)
        if not (self.feed.holds_out and due):
            return False
        if not self.feed.has_evaluated:  # its worker processes must not be forked while a thread is writing
            self.saver.finish()
        metrics = self.evaluate()
        self.monitor.write(metrics)
        return self.best.update(metrics, self.state.global_step)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Metrics on the held-out data, exact for any number of processes. The training goes on as if it had not been.

        Raises:
            UserError: nothing is held out.
        """
        if not self.feed.holds_out:
            raise UserError("evaluation: the dataset holds no episodes out (dataset.validation_episodes)")
        self.model.eval()
        with preserved_rng(), self.autocast():
            batches = (self.prepare(batch, "eval") for batch in self.feed.evaluation_batches())
            metrics = self.task.evaluate(self.inference_model(), batches, self.dist)
        self.model.train()
        return metrics

    def evaluate_in_background(self) -> None:
        """Hand a checkpoint to the processes that evaluate, if it is time to; write what they have found by now."""
        if self.background.due():
            self.saver.save()
            checkpoint = self.store.path(self.state.global_step)
            self.saver.when_saved(lambda: self.background.submit(checkpoint))
        self.monitor.write_found(self.background.found())

    def save_when_due(self, improved: bool) -> None:
        """Save if it is time to, or if the last evaluation was the best, or the last of all."""
        checkpoint = self.config.checkpoint
        due = Interval(checkpoint.every_steps, checkpoint.every_epochs).due(self.state)
        if due or (improved and checkpoint.keep_best) or self.best.should_stop:
            self.saver.save()
