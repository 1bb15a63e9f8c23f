"""The `checkpoints/` folder of a run: which are kept, which is the newest, which is the best."""

import re
import shutil
from pathlib import Path
from typing import Any

from vla.conf.pretrain import CheckpointConfig
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.training.checkpoint_files import TEMPORARY, read_json, read_manifest, remove_checkpoint, write_json

overwatch = initialize_overwatch(__name__)

INDEX = "index.json"
FOLDER = "checkpoints"
_STEP = re.compile(r"step-(\d{6,})")


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint folder's name, None if it has another name."""
    match = _STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        run_dir: the run's folder.
        config: how many are kept.
    """

    def __init__(self, run_dir: Path, config: CheckpointConfig | None = None) -> None:
        self.folder = run_dir / FOLDER
        self._config = config or CheckpointConfig()

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` lies, or would lie."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps of all checkpoint folders, complete or not, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(step for path in self.folder.iterdir() if (step := step_of(path)) is not None)

    def newest(self) -> Path | None:
        """The newest complete checkpoint; incomplete ones are passed over with a warning."""
        for step in reversed(self.steps()):
            try:
                read_manifest(self.path(step))
                return self.path(step)
            except UserError as error:
                overwatch.warning(f"passed over: {error}")
        return None

    def best(self) -> Path | None:
        """The checkpoint with the best evaluation, if one is recorded and there."""
        name = self._read_index().get("best")
        return self.folder / name if name and (self.folder / name).is_dir() else None

    def _read_index(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / INDEX)
        except UserError:  # none yet
            return {}

    def record(self, step: int, best_step: int | None, best_value: float | None, metric: str) -> None:
        """Note the checkpoint of `step` in index.json and delete those that are no longer kept.

        The best one is never deleted (unless `keep_best` is off), nor is the one just written.
        """
        best = self.path(best_step).name if best_step is not None and self.path(best_step).is_dir() else None
        kept = set(self.steps()[-self._config.keep_last :]) | {step}
        if self._config.keep_best and best is not None and best_step is not None:
            kept.add(best_step)
        index = {
            "last": self.path(step).name, "best": best, "metric": metric, "best_value": best_value,
            "checkpoints": [self.path(item).name for item in self.steps() if item in kept],
        }  # fmt: skip
        write_json(self.folder / INDEX, index)
        for item in self.steps():
            if item not in kept:
                remove_checkpoint(self.path(item))

    def rewind(self, step: int) -> None:
        """The run goes on from `step`: put later checkpoints, which an earlier attempt left, out of the way.

        They are renamed, not deleted; leftovers of interrupted saves are deleted.
        """
        if not self.folder.is_dir():
            return
        for path in self.folder.glob(f"*{TEMPORARY}"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        for later in [item for item in self.steps() if item > step]:
            aside = self.folder / f"superseded-{self.path(later).name}"
            overwatch.warning(f"{self.path(later).name} is past the step that the run goes on from; now {aside.name}")
            shutil.rmtree(aside, ignore_errors=True)
            self.path(later).rename(aside)


def find_checkpoint(path: Path, prefer: str = "last") -> Path:
    """The checkpoint that `path` means: itself, or the best or last one of a run folder.

    Args:
        path: a checkpoint folder, a run folder, or its `checkpoints` folder.
        prefer: last | best; a run without a best one gives its last.

    Raises:
        UserError: there is no complete checkpoint; one line that says where was looked.
    """
    if step_of(path) is not None or (path / "manifest.json").is_file():
        read_manifest(path)
        return path
    store = CheckpointStore(path.parent if path.name == FOLDER else path)
    best = store.best() if prefer == "best" else None
    found = best or store.newest()
    if found is None:
        raise UserError(f"no complete checkpoint in {store.folder}; name a run's folder, or one of its checkpoints")
    return found


def resolve_resume(run_dir: Path, resume: str | None) -> Path | None:
    """The checkpoint that `--resume` asks for.

    Args:
        run_dir: the run's folder.
        resume: None | "auto" (the run's newest, None when there is none) | a checkpoint or run folder.

    Raises:
        UserError: the folder given holds no complete checkpoint, or a new run would overwrite an old one's.
    """
    if resume == "auto":
        return CheckpointStore(run_dir).newest()
    if resume is not None:
        try:
            return find_checkpoint(Path(resume))
        except UserError as error:
            raise UserError(f"resume: {error}") from None
    if CheckpointStore(run_dir).steps():
        raise UserError(f"run_id: {run_dir} already holds checkpoints; pass --resume auto or another --run_id")
    return None
