"""`threshold.json`: what a watcher's scores are compared with, and which weights and frames it holds for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vla.data.rendered_files import write_text
from vla.errors import UserError

FILE = "threshold.json"
FORMAT = 1
SPREAD_FLOOR = 0.1  # of the mean spread, added to every place's: where nothing ever moved, noise is no alarm

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Usual:
    """
    What a detector's map of anomaly usually is at each place, in normal episodes seen by a camera that stands still.

    A place that the detector never rebuilds well is not strange for that, and one that it suddenly rebuilds better, as
    of a blurred or dark frame, is.

    Attributes:
        mean, spread: [h][w] of the map, averaged over cells.
    """

    mean: Rows
    spread: Rows

    @classmethod
    def of(cls, maps: np.ndarray) -> Usual:
        """Of the maps float [n, h, w] of the frames that were trained on."""
        maps = maps.astype(np.float64)
        spread = maps.std(axis=0)
        return cls(_rows(maps.mean(axis=0)), _rows(spread + SPREAD_FLOOR * spread.mean() + 1e-12))

    def scores(self, maps: np.ndarray) -> list[float]:
        """Of maps float [n, h, w]: how many spreads the most unusual place is away from its mean, up or down."""
        away = np.abs(maps.astype(np.float64) - np.array(self.mean)) / np.array(self.spread)
        return [float(value) for value in away.max(axis=(1, 2))]


def _rows(values: np.ndarray) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in values)


@dataclass(frozen=True)
class Threshold:
    """
    A conformal threshold, see `vla.evaluation.conformal`.

    Attributes:
        value: a score above it is an alarm.
        false_alarm_rate: share of false alarms that was asked for.
        per: episode | frame: what that is a share of.
        episodes, frames: normal ones that it comes from.
        every: control steps between two frames of an episode.
        camera: whose frames they were.
        image_size: of the frames as they were stored, pixels.
        fingerprint: of the weights and the preparation that gave the scores.
        usual: what scores are measured by; None: they are the detector's own.
    """

    value: float
    false_alarm_rate: float
    per: str
    episodes: int
    frames: int
    every: int
    camera: str
    image_size: int
    fingerprint: str
    usual: Usual | None = None

    def check_frames(self, camera: str, image_size: int | None) -> None:
        """Compare with the frames that are going to be looked at; None: their size isn't known.

        Raises:
            UserError: they are of another camera or size, so that scores would mean something else.
        """
        given = (camera, self.image_size if image_size is None else image_size)
        if given != (self.camera, self.image_size):
            raise UserError(
                f"watcher: was calibrated on {self.image_size}-pixel frames of {self.camera}, the policy sees "
                f"{given[1]}-pixel ones of {camera} first; train and calibrate one on those, or pass --image_size"
            )


def write_threshold(run: Path, threshold: Threshold) -> Path:
    """Save it in a run's folder; returns the file's path."""
    path = run / FILE
    write_text(path, json.dumps({"format": FORMAT, **asdict(threshold)}, indent=1) + "\n")
    return path


def read_threshold(run: Path, fingerprint: str) -> Threshold | None:
    """The threshold of a run's folder; None if there is none.

    Raises:
        UserError: it can't be read, or belongs to other weights.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        usual = values.pop("usual")
        read = None if usual is None else Usual(*(_rows(np.array(usual[name])) for name in ("mean", "spread")))
        threshold = Threshold(**values, usual=read)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path}: not a watcher's threshold ({error}); calibrate again") from error
    if threshold.fingerprint != fingerprint:
        raise UserError(
            f"{path}: belongs to other weights ({threshold.fingerprint}, these are {fingerprint}); calibrate again "
            "with --false_alarm_rate"
        )
    return threshold
