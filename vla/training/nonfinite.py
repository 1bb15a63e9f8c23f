"""Steps whose loss or gradient is not finite: skipped by all processes alike, counted, and kept for replay."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vla import batches
from vla.batches import Batch
from vla.conf.json_files import read_json_object
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState, all_reduce_sum
from vla.training.checkpoint_files import one_line_errors, read_tensors
from vla.training.result import NonFiniteError
from vla.training.state import TrainerState

overwatch = initialize_overwatch(__name__)

FOLDER = "nonfinite"  # in the run's folder
MOST_DUMPS = 20  # steps whose batches are kept; later ones are named in the log alone


class NonFiniteGuard:
    """Decides for all processes whether a step is taken, and what happens if it is not.

    Args:
        run_dir: the run's folder; dumps go to `nonfinite/` in it.
        limit: so many such steps in a row end the run.
        dist: this process.
        state: where the run stands; counts are kept there.
    """

    def __init__(self, run_dir: Path, limit: int, dist: DistState, state: TrainerState) -> None:
        self._folder, self._limit, self._dist, self._state = run_dir / FOLDER, limit, dist, state

    def agree(self, losses: list[Tensor], norm: float) -> tuple[bool, bool]:
        """Whether the losses, and the gradient's norm, are finite in every process. All processes must call it.

        Args:
            losses: 0-dim, of this process's micro-batches.
            norm: of the whole gradient.
        """
        mine = [not all(math.isfinite(loss.item()) for loss in losses), not math.isfinite(norm)]
        loss, gradient = all_reduce_sum(torch.tensor(mine, dtype=torch.float64), self._dist).tolist()
        return not loss, not gradient

    def taken(self) -> None:
        """A step was taken."""
        self._state.nonfinite_in_a_row = 0

    def skipped(self, window: list[Batch], losses: list[Tensor], norm: float) -> None:
        """A step was not taken: count it, say so, keep its batches.

        Args:
            window: this process's micro-batches, as loaded.
            losses: 0-dim, of them.
            norm: of the gradient.

        Raises:
            NonFiniteError: it was one too many in a row.
        """
        state = self._state
        state.nonfinite_steps += 1
        state.nonfinite_in_a_row += 1
        what = "loss" if not all(map(math.isfinite, (loss.item() for loss in losses))) else "gradient"
        ids = [number for batch in window for number in batch.sample_ids.tolist()]
        text = f"step {state.global_step}: the {what} is not finite (norm {norm}), skipped; samples {ids[:32]}"
        dumped = self._dump(window, losses, norm)
        overwatch.error(text + (f"; kept in {dumped} for replay" if dumped else ""))
        if state.nonfinite_in_a_row >= self._limit:
            raise NonFiniteError(
                f"step {state.global_step}: the {what} is not finite (norm {norm}), {state.nonfinite_in_a_row} steps "
                "in a row (max_nonfinite_steps)"
            )

    def _dump(self, window: list[Batch], losses: list[Tensor], norm: float) -> Path | None:
        folder = self._folder / f"step-{self._state.global_step:06d}"
        try:
            if self._folder.is_dir() and len(list(self._folder.iterdir())) >= MOST_DUMPS and not folder.is_dir():
                return None
            folder.mkdir(parents=True, exist_ok=True)
            save_window(folder, self._dist.rank, window, {"losses": [loss.item() for loss in losses], "norm": norm})
        except (OSError, SafetensorError) as error:  # a full disk is either
            overwatch.error(f"{folder}: the batches could not be kept: {error}")
            return None
        return folder


def save_window(folder: Path, rank: int, window: list[Batch], notes: dict[str, Any]) -> None:
    """Write a process's micro-batches: tensors as safetensors, the rest as JSON (numbers that are none as text).

    Args:
        folder: exists.
        rank: of the process.
        window: as loaded.
        notes: JSON values to keep beside them.
    """
    tensors: dict[str, Tensor] = {}
    described = []
    for number, batch in enumerate(window):
        plain: dict[str, Any] = {}
        for item in fields(batch):
            value = getattr(batch, item.name)
            if isinstance(value, Tensor):
                tensors[f"{number}.{item.name}"] = value.cpu().contiguous().clone()
            elif isinstance(value, dict) and value and all(isinstance(part, Tensor) for part in value.values()):
                for key, part in value.items():
                    tensors[f"{number}.{item.name}.{key}"] = part.cpu().contiguous().clone()
            elif _is_plain(value):
                plain[item.name] = value
        described.append({"type": type(batch).__name__, "fields": plain})
    save_file(tensors, folder / f"rank-{rank:05d}.safetensors")
    content = {"sample_ids": [batch.sample_ids.tolist() for batch in window], **notes, "batches": described}
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
    (folder / f"rank-{rank:05d}.json").write_text(text + "\n", encoding="utf-8")


def load_window(folder: Path, rank: int = 0) -> list[Batch]:
    """The micro-batches that a process had when a step was skipped, as they were loaded.

    Args:
        folder: `nonfinite/step-<number>` of a run.
        rank: of the process.

    Raises:
        UserError: there are none, or they can't be read; one line.
    """
    path = folder / f"rank-{rank:05d}.json"
    described, tensors = read_json_object(path), read_tensors(path.with_suffix(".safetensors"))
    window = []
    with one_line_errors(path):
        for number, entry in enumerate(described["batches"]):
            kind = getattr(batches, entry["type"], None)
            if not (isinstance(kind, type) and issubclass(kind, Batch)):
                raise UserError(f"{path}: {entry['type']!r} is no kind of batch")
            values: dict[str, Any] = dict(entry["fields"])
            for name, tensor in tensors.items():
                owner, _, rest = name.partition(".")
                if owner == str(number):
                    field, _, key = rest.partition(".")
                    if key:
                        values.setdefault(field, {})[key] = tensor
                    else:
                        values[field] = tensor
            window.append(kind(**values))
    return window


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def _without_nan(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
