"""When and how a run is saved: in the background from a copy, tried out before the first step, never ending the run."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import broadcast_object
from vla.training import checkpoint_files
from vla.training.checkpoint import save_checkpoint
from vla.training.checkpoint_files import TEMPORARY, CheckpointWriter

if TYPE_CHECKING:
    from vla.training.strategies.base_strategy import TrainStrategy

overwatch = initialize_overwatch(__name__)

REHEARSAL = "rehearsal" + TEMPORARY
_GB = 10**9


class DeferredWriter(CheckpointWriter):
    """Takes everything at once and writes the tensors, flushes and renames when `finish` is called, by any thread.

    Args:
        folder: as of `CheckpointWriter`.
        enabled: as of `CheckpointWriter`.
        buffers: memory for the copies of tensors, by file and name, which the next writer can use again; fresh memory
            costs more than the copy itself. In use until `finish` has returned.
    """

    def __init__(self, folder: Path, *, enabled: bool = True, buffers: dict[tuple[str, str], Tensor]) -> None:
        super().__init__(folder, enabled=enabled)
        self._buffers = buffers
        self._later: list[tuple[str, dict[str, Tensor]]] = []
        self._manifest: dict[str, Any] | None = None

    def __exit__(self, *_: object) -> None:
        if self._manifest is None:  # broken off before all was taken
            super().__exit__()

    def tensors(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Copy tensors for a safetensors file."""
        self._attempt(lambda: self._later.append((name, {key: self._copy(name, key, tensors[key]) for key in tensors})))

    def _copy(self, name: str, key: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get((name, key))
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._buffers[name, key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return buffer.copy_(tensor.detach())

    def commit(self, manifest: dict[str, Any]) -> None:
        """Take the manifest: everything is there."""
        self._manifest = manifest

    def finish(self) -> None:
        """Write everything; see `CheckpointWriter.commit`."""
        assert self._manifest is not None
        try:
            for name, tensors in self._later:
                super().tensors(name, tensors)
            super().commit(self._manifest)
        finally:
            super().__exit__()


class Saver:
    """Writes the checkpoints of a run. A context: leaving it waits for what is being written.

    With `checkpoint.asynchronous` the loop only waits while weights and optimizer are copied; a thread of the main
    process writes the copy. One save is written at a time.

    Args:
        strategy: set up; its `store` is written to.
        saved_step: the step that the run goes on from, which needs no saving.
    """

    def __init__(self, strategy: "TrainStrategy", saved_step: int | None = None) -> None:
        self.error: str | None = None  # why the newest checkpoint is not there
        self._strategy, self._config = strategy, strategy.config.checkpoint
        self._saved_step = saved_step
        self._buffers: dict[tuple[str, str], Tensor] = {}
        self._thread: threading.Thread | None = None
        self._lock, self._writing = threading.Lock(), False
        self._afterwards: list[Callable[[], None]] = []

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def save(self) -> None:
        """Save the current step, unless it is. All processes must call it. An error of the disk is logged, no more."""
        strategy, step = self._strategy, self._strategy.state.global_step
        if self._saved_step == step:
            return
        self._saved_step = step
        self.finish()
        strategy.monitor.update_elapsed()
        folder, is_main = strategy.store.path(step), strategy.dist.is_main
        best = strategy.best.step, strategy.best.value, strategy.config.evaluation.metric
        if not self._config.asynchronous:
            writer = CheckpointWriter(folder, enabled=is_main)
            self._write(step, best, lambda: save_checkpoint(strategy, writer))
            return
        deferred = DeferredWriter(folder, enabled=is_main, buffers=self._buffers)
        save_checkpoint(strategy, deferred)
        if is_main:
            self._writing = True
            # Not a daemon: whatever ends the program, the checkpoint is finished first.
            arguments = (step, best, deferred.finish)
            self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint", daemon=False)
            self._thread.start()

    def _write(self, step: int, best: tuple[int | None, float | None, str], write: Callable[[], None]) -> None:
        try:
            if self._strategy.dist.is_main:
                self._flush_metrics()
            write()
            if self._strategy.dist.is_main:
                self._strategy.store.record(step, *best)
            self.error = None
        except Exception as error:  # the last good checkpoint stays
            if not isinstance(error, OSError) and threading.current_thread() is threading.main_thread():
                raise
            self.error = f"step {step} is NOT saved: {error}"
            overwatch.error(self.error)
        with self._lock:
            self._writing, afterwards, self._afterwards = False, self._afterwards, []
        for act in afterwards:
            act()

    def _flush_metrics(self) -> None:
        """A checkpoint that survives a crash of the machine must not go on from steps whose metrics did not."""
        file = self._strategy.monitor.metrics_file
        for path in (file, file.parent, file.parent.parent):
            if path.exists():
                checkpoint_files.flush(path)

    def when_saved(self, act: Callable[[], None]) -> None:
        """Call `act` when the newest checkpoint is there, or failed to be: now, or from the thread that writes it."""
        with self._lock:
            if self._writing:
                self._afterwards.append(act)
                return
        act()

    def finish(self, timeout: float | None = None) -> None:
        """Wait until nothing is being written any more, or for `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            if not self._thread.is_alive():
                self._thread = None

    def rehearse(self) -> None:
        """Save once for the trial and remove it again: a run that can't be saved must not begin.

        All processes must call it, before the first step.

        Raises:
            UserError: it could not be written, or there is no room for the checkpoints that are kept; in all processes.
        """
        dist, problem = self._strategy.dist, None
        folder = self._strategy.store.folder / REHEARSAL
        try:
            save_checkpoint(self._strategy, CheckpointWriter(folder, enabled=dist.is_main))
            if dist.is_main:
                problem = self._lack_of_room(folder)
        except OSError as error:
            problem = f"run_root_dir: a rehearsal of saving failed: {error}; free some room, or choose another folder"
        if dist.is_main:
            shutil.rmtree(folder, ignore_errors=True)
        problem = broadcast_object(problem, dist)
        if problem is not None:
            raise UserError(problem)

    def _lack_of_room(self, folder: Path) -> str | None:
        rehearsal = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        one = rehearsal + self._optimizer_bytes()
        several = self._config.keep_last + self._config.keep_best + 1  # one is written before another goes
        free = shutil.disk_usage(folder).free + rehearsal
        if several * one <= free:
            return None
        return (
            f"run_root_dir: {several} checkpoints of about {one / _GB:.2f} GB lie in {folder.parent} at once "
            f"(keep_last, keep_best and the one being written), and {free / _GB:.2f} GB are free; free some, choose "
            "another --run_root_dir, or pass a smaller --checkpoint.keep_last"
        )

    def _optimizer_bytes(self) -> int:
        """What the optimizer will hold, which before the first step is nothing: AdamW two numbers per parameter."""
        optimizer = self._strategy.stage.optimizer
        numbers = 2 if optimizer.name == "adamw" else int(optimizer.momentum > 0)
        parameters = [p for group in self._strategy.optimizer.param_groups for p in group["params"]]
        return numbers * sum(parameter.numel() * parameter.element_size() for parameter in parameters)
