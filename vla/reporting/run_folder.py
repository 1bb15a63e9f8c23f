"""Reading a run folder. What is missing or can't be read is said in words and never stops the report."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla.reporting.history import History, read_history

ACTIONS = "num_actions"  # only evaluations of models that act have it
CLASSES = "classes"  # and only those of anomaly detectors


@dataclass(frozen=True)
class ParameterRow:
    """Parameters of one module group."""

    name: str
    total: int
    trainable: int


@dataclass(frozen=True)
class Episode:
    """One held-out episode: what was demonstrated, what the model predicts from the same observations."""

    demonstrated: np.ndarray  # [T, A], physical units
    predicted: np.ndarray  # [T, A]
    names: list[str]
    units: list[str]
    instruction: str = ""
    label: str = ""
    frames: np.ndarray | None = None  # uint8 [n, cameras, 3, H, W], upright
    frame_steps: list[int] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run folder says."""

    run_dir: Path
    config_text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    parameters: list[ParameterRow] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    evaluation: dict[str, Any] = field(default_factory=dict)
    episode: Episode | None = None
    notes: list[str] = field(default_factory=list)


def _read_config(path: Path) -> tuple[str, dict]:
    text = path.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    return text, config if isinstance(config, dict) else {}


def _read_mapping(path: Path) -> dict:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _read_parameters(path: Path) -> list[ParameterRow]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows = rows.get("groups", []) if isinstance(rows, dict) else rows
    return [ParameterRow(str(row["name"]), int(row["total"]), int(row["trainable"])) for row in rows]


def _read_episode(path: Path) -> Episode:
    with np.load(path, allow_pickle=False) as data:
        demonstrated, predicted = np.asarray(data["demonstrated"]), np.asarray(data["predicted"])
        if demonstrated.ndim != 2 or demonstrated.shape != predicted.shape:
            raise ValueError(f"shapes {demonstrated.shape} and {predicted.shape} are not [T, A] twice")
        width = demonstrated.shape[1]
        names = [str(name) for name in data["names"]] if "names" in data else [f"action {i}" for i in range(width)]
        units = [str(unit) for unit in data["units"]] if "units" in data else [""] * width
        return Episode(
            demonstrated,
            predicted,
            names,
            units,
            instruction=str(data["instruction"]) if "instruction" in data else "",
            label=str(data["label"]) if "label" in data else "",
            frames=np.asarray(data["frames"]) if "frames" in data else None,
            frame_steps=[int(step) for step in data["frame_steps"]] if "frame_steps" in data else [],
            cameras=[str(camera) for camera in data["cameras"]] if "cameras" in data else [],
        )


def read_run(run_dir: Path) -> RunRecord:
    """Read what `run_dir` holds.

    Raises:
        FileNotFoundError: `run_dir` is no folder.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"run folder not found: {run_dir}")
    notes: list[str] = []

    def attempt(name: str, what: str, read: Callable[[Path], Any], default: Any) -> Any:
        path = run_dir / name
        if not path.is_file():
            notes.append(f"{what} is missing: there is no {name}.")
            return default
        try:
            return read(path)
        except Exception as error:  # a report on a broken run is worth more than none
            notes.append(f"{what} can't be read: {name}: {error}")
            return default

    config_text, config = attempt("config.yaml", "The configuration", _read_config, ("", {}))
    parameters = attempt("parameters.json", "The parameter table", _read_parameters, [])
    environment = attempt("environment.json", "The environment", _read_mapping, {})
    history = attempt("metrics.jsonl", "The training log", read_history, History())
    evaluation = attempt("evaluation/metrics.json", "The evaluation on held-out data", _read_mapping, {})
    episode = None
    if not evaluation or ACTIONS in evaluation:
        episode = attempt("evaluation/episode.npz", "The predicted episode", _read_episode, None)
    record = RunRecord(
        run_dir, config_text, config, parameters, environment, history, evaluation, episode, notes
    )  # fmt: skip
    if record.history.num_bad_lines:
        notes.append(f"{record.history.num_bad_lines} lines of metrics.jsonl can't be read and were left out.")
    for key, series in record.history.series.items():
        bad = series.steps[~np.isfinite(series.values)]
        if len(bad):
            notes.append(f"{key} is not finite in {len(bad)} log entries, first at step {int(bad[0])}.")
    return record
