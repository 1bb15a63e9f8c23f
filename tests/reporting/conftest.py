"""A run folder as training leaves it, with made-up contents."""

import json
from pathlib import Path

import numpy as np
import pytest

CONFIG = """\
model:
  type: vggt-tiny
  pretrained: false
  full_finetune:
    epochs: 4
    global_batch_size: 16
    learning_rate: 0.001
dataset:
  type: libero-mini
stage: full-finetune
seed: 7
"""
NAMES = ["x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper"]
UNITS = ["mm"] * 3 + ["°"] * 3 + ["-1 open, +1 closed"]


def _metrics(num_steps: int, every: int) -> list[dict]:
    rng = np.random.default_rng(0)
    rows: list[dict] = []
    for step in range(every, num_steps + 1, every):
        fraction = step / num_steps
        rows.append(
            {
                "global_step": step, "epoch": 4 * fraction, "time": 0.55 * step,
                "train/loss": 0.35 * np.exp(-4 * fraction) + 0.06 + rng.normal() * 0.015,
                "train/pose_loss": 0.2 * np.exp(-4 * fraction) + 0.03,
                "train/learning_rate": 1e-3 * min(fraction / 0.05, 0.5 + 0.5 * np.cos(np.pi * fraction)),
                "train/grad_norm": 1.5 * np.exp(-2 * fraction) + rng.gamma(2, 0.1),
                "train/samples_per_second": 31 + rng.normal(), "train/data_wait": abs(rng.normal()) * 0.02,
                "train/step_time": 0.5 + rng.gamma(2, 0.01), "train/memory_gib": 61.25, "train/mfu": 0.431,
                "training_stats/avg_tokens_per_second": 18234.0,
            }
        )  # fmt: skip
        if step % (num_steps // 4) == 0:
            rows.append({"global_step": step, "eval/loss": 0.3 * np.exp(-3 * fraction) + 0.09, "eval/time": 4.0})
    return rows


def _actions(length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    time = np.linspace(0, 3, length)[:, None]
    demonstrated = np.concatenate(
        [25 * np.sin(time * [1, 1.7, 2.3]), 4 * np.cos(time * [1, 2, 1.5]), np.where(time > 1.6, 1.0, -1.0)], axis=1
    )
    noise = rng.normal(size=demonstrated.shape) * [3, 3, 3, 0.6, 0.6, 0.6, 0]
    predicted = demonstrated * 0.8 + noise
    predicted[:, 6] = np.where(time[:, 0] > 1.7, 1.0, -1.0)
    return demonstrated, predicted


def _frames(num: int) -> np.ndarray:
    grid = np.linspace(0, 255, 128)
    frames = np.zeros((num, 2, 3, 128, 128), dtype=np.uint8)
    for index in range(num):
        frames[index, :, 0] = grid[:, None]
        frames[index, :, 1] = grid[None, :]
        frames[index, 1, 2] = 40 * index % 256
    return frames


def write_run(run_dir: Path, *, num_steps: int = 400, every: int = 5, length: int = 140) -> Path:
    """Write every file that the report reads."""
    (run_dir / "evaluation").mkdir(parents=True)
    (run_dir / "config.yaml").write_text(CONFIG)
    groups = [("vision_backbone", 2_300_000), ("llm_backbone", 160_000), ("fusion", 90_000), ("action_head", 9_100)]
    rows = [
        {"name": name, "total": total, "trainable": total if index else 0} for index, (name, total) in enumerate(groups)
    ]
    (run_dir / "parameters.json").write_text(json.dumps(rows))
    environment = {
        "versions": {"python": "3.12", "torch": "2.13.0"},
        "hardware": {"cpu": "a CPU", "cores": 2, "gpus": []},
    }
    (run_dir / "environment.json").write_text(json.dumps(environment))
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _metrics(num_steps, every)))
    demonstrated, predicted = _actions(length)
    errors = np.abs(demonstrated - predicted).mean(axis=0)
    baseline = np.abs(demonstrated - demonstrated.mean(axis=0)).mean(axis=0)
    dimensions = [
        {"name": name, "unit": unit, "l1": float(error), "l1_baseline": float(base)}
        for name, unit, error, base in zip(NAMES[:6], UNITS, errors, baseline, strict=False)
    ]
    metrics = {
        "num_episodes": 3, "num_actions": 411, "seconds": 3.4, "dimensions": dimensions,
        "translation_l1": float(errors[:3].mean()), "translation_l1_baseline": float(baseline[:3].mean()),
        "rotation_l1": float(errors[3:6].mean()), "rotation_l1_baseline": float(baseline[3:6].mean()),
        "gripper_accuracy": 0.965, "gripper_accuracy_baseline": 0.6,
    }  # fmt: skip
    (run_dir / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    np.savez_compressed(
        run_dir / "evaluation" / "episode.npz",
        demonstrated=demonstrated, predicted=predicted, names=NAMES, units=UNITS,
        instruction="pick up the milk & place it in the <basket>", label="pick_up_the_milk demo_2",
        frames=_frames(8), frame_steps=np.linspace(0, length - 1, 8).astype(int), cameras=["agentview", "eye_in_hand"],
    )  # fmt: skip
    return run_dir


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A complete run folder."""
    return write_run(tmp_path / "a-run")
