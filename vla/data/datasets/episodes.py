"""What every reader of demonstrations makes of its files: checked episodes, and a source of their frames."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vla.data.errors import BadEpisode
from vla.data.statistics import Statistics, cached_statistics
from vla.errors import UserError

Frames = NDArray[np.uint8]
NOOP_NORM = 1e-4
MAX_STEPS = 1_000_000  # of a demonstration: fourteen hours at 20 steps a second
MAX_PIXELS = 2**26  # of an image


@dataclass(frozen=True, eq=False)
class Episode:
    """A checked episode. Step k pairs the action `actions[k]` with the observation row `rows[k]` taken before it."""

    file: str  # path below the dataset's root
    demo: str
    task: str
    instruction: str
    alignment: str  # of the file: before | after
    image_shape: tuple[int, int]  # height, width
    rows: NDArray[np.int32]  # [T]
    actions: NDArray[np.float32]  # [T, A], as stored
    proprio: NDArray[np.float32] | None  # [T, P], as stored, of `rows`
    content: str  # hash that differs between episodes with other frames


@dataclass(frozen=True)
class Scan:
    """What a folder holds."""

    episodes: list[Episode]  # in the order of the data
    skipped: list[str]  # one line for every bad episode or file that was left out


class FrameSource(Protocol):
    """Reads frames of episodes. Cheap to pickle: every process opens files for itself."""

    root: Path

    @property
    def counters(self) -> dict[str, int]:
        """How this process read frames, for people."""
        ...

    @property
    def cached_bytes(self) -> int:
        """Bytes of frames that this process keeps."""
        ...

    def read(self, file: str, demo: str, camera: str, rows: Sequence[int], out: Frames) -> None:
        """Copy frames `rows` of `camera` (the model's name of it) of an episode into `out`, uint8 [n, H, W, 3].

        Each frame of `out` must be contiguous.

        Raises:
            BadEpisode: a frame can't be read.
        """
        ...

    def close(self) -> None:
        """Close all files and forget all frames; reading again opens them anew."""
        ...


class OpensForItself:
    """What makes a `FrameSource` cheap to pickle: its settings go to another process, open files and frames don't.

    `_reset` is called here and by `close`; it makes what belongs to a process.
    """

    settings: ClassVar[tuple[str, ...]]  # names of the attributes that are pickled

    def _reset(self) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


class BoundedCache:
    """What was decoded last, at most so many bytes of it.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What is kept under `key`; None: nothing."""
        found = self._items.get(key)
        if found is None:
            return None
        self._items.move_to_end(key)
        return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """Keep `value` of `size` bytes, and drop what was used longest ago."""
        before = self._items.pop(key, None)
        self._items[key] = (value, size)
        self.bytes += size - (before[1] if before else 0)
        while self.bytes > self.limit and self._items:
            self.bytes -= self._items.popitem(last=False)[1][1]


class Gathering:
    """Collects episodes, and what is wrong with others.

    Args:
        root: of the dataset.
        on_bad_episode: error | skip.
    """

    def __init__(self, root: Path, on_bad_episode: str) -> None:
        self.root = root
        self.on_bad_episode = on_bad_episode
        self.episodes: list[Episode] = []
        self.skipped: list[str] = []

    def add(self, found: Iterable[Episode | BadEpisode]) -> None:
        """Take what is good.

        Raises:
            BadEpisode: an episode can't be used, and none may be left out.
        """
        for item in found:
            if isinstance(item, Episode) and self.episodes and item.image_shape != self.episodes[0].image_shape:
                item = self._other_shape(item, self.episodes[0])
            if isinstance(item, Episode):
                self.episodes.append(item)
            elif self.on_bad_episode == "error":
                raise item
            else:
                self.skipped.append(str(item))

    def _other_shape(self, episode: Episode, first: Episode) -> BadEpisode:
        here, there = ("x".join(map(str, e.image_shape)) for e in (episode, first))
        where = f"{self.root / episode.file}: {episode.demo}"
        return BadEpisode(f"{where}: images are {here}, those of {first.file} {first.demo} are {there}")

    def scan(self) -> Scan:
        """All of it.

        Raises:
            UserError: nothing was good.
        """
        if not self.episodes:
            first = f": {self.skipped[0]}" if self.skipped else ""
            raise UserError(f"dataset.root: no usable episode in {self.root}, {len(self.skipped)} skipped{first}")
        return Scan(self.episodes, self.skipped)


def kept_steps(actions: NDArray[np.floating], filter_noops: bool) -> NDArray[np.int32]:
    """Numbers of the steps that are trained on.

    A no-op moves less than 1e-4 and repeats the gripper command of the last step that was kept (OpenVLA's rule).
    """
    if not filter_noops:
        return np.arange(len(actions), dtype=np.int32)
    still = np.linalg.norm(actions[:, :-1], axis=1) < NOOP_NORM
    kept: list[int] = []
    for step, gripper in enumerate(actions[:, -1]):
        if not (still[step] and (not kept or gripper == actions[kept[-1], -1])):
            kept.append(step)
    return np.array(kept, dtype=np.int32)


def aligned_steps(
    actions: NDArray[np.floating], filter_noops: bool, alignment: str, first: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Which steps [T] of an episode are trained on, and the observation row [T] that was taken before each.

    Args:
        actions: [N, A], the gripper's command last.
        filter_noops: leave out steps that do nothing.
        alignment: observations lie `before` or `after` the action of their row.
        first: earlier steps are left out.

    Raises:
        ValueError: no step is left.
    """
    steps = kept_steps(actions, filter_noops)
    steps = steps[steps >= first]
    if alignment == "after":
        steps = steps[steps > 0]  # nothing was observed before the first action
    if len(steps) == 0:
        raise ValueError(f"none of its {len(actions)} steps can be used (observations {alignment} actions)")
    return steps, steps - 1 if alignment == "after" else steps


def check_finite(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """`values` [T, D] themselves. Raises ValueError if one is NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        step, column = np.argwhere(bad)[0]
        kind = "NaN" if np.isnan(values[step, column]) else "infinity"
        raise ValueError(f"{name} contain {kind} at step {step}")
    return values


def split_episodes(
    episodes: list[Episode], held_out: int, *, strict: bool = True
) -> tuple[list[Episode], list[Episode]]:
    """Training episodes, and the last `held_out` of each task.

    Args:
        episodes: in order.
        held_out: episodes.
        strict: a task with too few is an error; else all of them are trained on.

    Raises:
        ValueError: a task would keep no episode to train on.
    """
    if held_out == 0:
        return episodes, []
    total = Counter(episode.task for episode in episodes)
    for task, count in total.items():
        if strict and count <= held_out:
            raise UserError(
                f"dataset.validation_episodes: must leave something to train on, got {held_out} of the {count} "
                f"usable episodes of '{task}'"
            )
    seen: Counter[str] = Counter()
    parts: tuple[list[Episode], list[Episode]] = ([], [])
    for episode in episodes:
        seen[episode.task] += 1
        count = total[episode.task]
        parts[count > held_out and seen[episode.task] > count - held_out].append(episode)
    return parts


def training_statistics(episodes: list[Episode], root: Path, options: dict[str, Any]) -> Statistics:
    """Statistics of the actions and robot states of `episodes`, from the cache in `root` where it has them.

    Args:
        episodes: those that are trained on.
        root: of the dataset.
        options: what else they depend on; any JSON values.
    """
    arrays = {"actions": np.concatenate([episode.actions for episode in episodes])}
    proprio = [episode.proprio for episode in episodes if episode.proprio is not None]
    if len(proprio) == len(episodes):
        arrays["proprio"] = np.concatenate(proprio)
    who = [[episode.file, episode.demo, len(episode.rows), episode.alignment] for episode in episodes]
    return cached_statistics(arrays, root, {"episodes": who, **options})
