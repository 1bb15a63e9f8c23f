"""The `checkpoints/` folder of a run: which are kept, which is the newest, which is the best."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla.conf.json_files import read_json_object
from vla.conf.pretrain import CheckpointConfig
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.training.checkpoint_files import (
    TEMPORARY,
    read_manifest,
    remove_checkpoint,
    verify_checkpoint,
    write_json,
)

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

    def newest(self, verify: bool = False) -> Path | None:
        """The newest complete checkpoint; incomplete ones are passed over with a warning.

        Args:
            verify: read all of it, and pass over those with a damaged file, too.
        """
        check = verify_checkpoint if verify else read_manifest
        for step in reversed(self.steps()):
            try:
                check(self.path(step))
                return self.path(step)
            except UserError as error:
                overwatch.warning(f"passed over: {error}")
        return None

    def best(self) -> Path | None:
        """The checkpoint with the best evaluation, if one is recorded and there."""
        name = self._read_index().get("best")
        if not isinstance(name, str) or step_of(Path(name)) is None:
            return None
        return self.folder / name if (self.folder / name).is_dir() else None

    def _read_index(self) -> dict[str, Any]:
        try:
            return read_json_object(self.folder / INDEX)
        except UserError:  # none yet
            return {}

    def _complete_steps(self) -> list[int]:
        complete = []
        for step in self.steps():
            try:
                read_manifest(self.path(step))
                complete.append(step)
            except UserError as error:
                overwatch.warning(f"not counted among those that are kept: {error}")
        return complete

    def record(self, step: int, best_step: int | None, best_value: float | None, metric: str) -> None:
        """Note the checkpoint of `step` in index.json and delete those that are no longer kept.

        The best one is never deleted (unless `keep_best` is off), nor is the one just written. Broken ones don't count
        among the newest that are kept, so that whole ones don't make room for them. Errors of the disk are logged, no
        more: the checkpoint itself is there.
        """
        complete = self._complete_steps()
        best = self.path(best_step).name if best_step is not None and self.path(best_step).is_dir() else None
        kept = set(complete[-self._config.keep_last :]) | {step}
        if self._config.keep_best and best is not None and best_step is not None:
            kept.add(best_step)
        index = {
            "last": self.path(step).name, "best": best, "metric": metric, "best_value": best_value,
            "checkpoints": [self.path(item).name for item in self.steps() if item in kept],
        }  # fmt: skip
        with _errors_logged("can't note the newest checkpoint"):  # a full disk gets room below
            write_json(self.folder / INDEX, index)
        if not complete:  # not even what was just written can be read back: nothing may go
            return
        for item in self.steps():
            if item not in kept and item < complete[-1]:
                with _errors_logged("can't delete a checkpoint that is no longer kept"):
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


@contextmanager
def _errors_logged(what: str) -> Iterator[None]:
    """Errors of the disk inside are logged, no more."""
    try:
        yield
    except OSError as error:
        overwatch.error(f"{what}: {error}")


def find_checkpoint(path: Path, prefer: str = "last") -> Path:
    """The checkpoint that `path` means: itself, or the best or last one of a run folder. All of its files are read and
    compared with their checksums; in a run folder, one that is damaged is passed over for the one before it.

    Args:
        path: a checkpoint folder, a run folder, or its `checkpoints` folder.
        prefer: last | best; a run without a best one gives its last.

    Raises:
        UserError: there is no whole checkpoint; one line that says where was looked.
    """
    if step_of(path) is not None or (path / "manifest.json").is_file():
        verify_checkpoint(path)
        return path
    store = CheckpointStore(path.parent if path.name == FOLDER else path)
    best = store.best() if prefer == "best" else None
    if best is not None:
        try:
            verify_checkpoint(best)
            return best
        except UserError as error:
            overwatch.warning(f"the best checkpoint is passed over for the last: {error}")
    found = store.newest(verify=True)
    if found is None:
        raise UserError(f"no complete checkpoint in {store.folder}; name a run's folder, or one of its checkpoints")
    return found


def resolve_resume(run_dir: Path, resume: str | None, restarted: bool = False) -> Path | None:
    """The checkpoint that `--resume` asks for.

    Args:
        run_dir: the run's folder.
        resume: None | "auto" (the run's newest, None when there is none) | a checkpoint or run folder.
        restarted: the launcher has started the same command again: it goes on with the run's newest, if it has any.

    Raises:
        UserError: the folder given holds no whole checkpoint, a new run would overwrite an old one's, or all
            checkpoints of the run are broken: to start over without a word would lose it.
    """
    store = CheckpointStore(run_dir)
    if resume == "auto" or (restarted and store.steps()):
        found, steps = store.newest(verify=True), store.steps()
        if found is None and steps:
            raise UserError(
                f"resume: none of the {len(steps)} checkpoints in {store.folder} is whole; move them away to start "
                "from the beginning"
            )
        return found
    if resume is not None:
        try:
            return find_checkpoint(Path(resume))
        except UserError as error:
            raise UserError(f"resume: {error}") from None
    if store.steps():
        raise UserError(f"run_id: {run_dir} already holds checkpoints; pass --resume auto or another --run_id")
    return None
