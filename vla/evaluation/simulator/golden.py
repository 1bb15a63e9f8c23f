"""Does the simulator draw and move as it should? Stored frames and states, and one published observation.

Everything here runs in a simulator process and needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.simulator.libero_env import LiberoEnv, Observation, rotate_180
from vla.evaluation.simulator.runtime import list_tasks, load_libero, official_initial_states

FOLDER = Path(__file__).parent / "golden_data"
FRAMES, PUBLISHED = "frames.npz", "openvla_oft_observation.npz"
RENDER_SIZE, STORED_SIZE = 128, 64  # pixels; a frame is averaged down, so that single edge pixels don't decide
CAMERAS = ("agentview", "robot0_eye_in_hand")

# Mean absolute errors of 8-bit values. Versions that draw alike differ by less than 0.1, other lights by 39.
FRAME_TOLERANCE = 1.0
# The published pictures were encoded as JPEG; the right simulator comes within 2.2.
PUBLISHED_TOLERANCE = 4.0
# Metres or radians, after the objects have settled. A physics that throws cartons about is off by 0.4.
STATE_TOLERANCE = 0.01
PROPRIO_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """One finding of the self-audit.

    Attributes:
        name: what `--force` calls it.
        status: passed | failed | warning | skipped.
        detail: what was measured, against which tolerance; or why it was skipped.
    """

    name: str
    status: str
    detail: str


def observe_start(suite: str, image_size: int) -> tuple[Observation, np.ndarray]:
    """The observation and state of task 0, official initial state 0, seed 0, after the usual ten idle steps."""
    load_libero()
    task = list_tasks(suite)[0]
    env = LiberoEnv(task, image_size, CAMERAS)
    try:
        return env.reset_to(official_initial_states(task)[0], seed=0), env.state
    finally:
        env.close()


def small(frame: np.ndarray) -> np.ndarray:
    """uint8 [64, 64, 3] of a frame [128, 128, 3]."""
    factor = RENDER_SIZE // STORED_SIZE
    blocks = frame.reshape(STORED_SIZE, factor, STORED_SIZE, factor, 3).astype(np.float64).mean(axis=(1, 3))
    return np.round(blocks).astype(np.uint8)


def record_golden_frames(suites: tuple[str, ...], path: Path = FOLDER / FRAMES) -> Path:
    """Write the frames that later runs are compared with; for a checked simulator only."""
    arrays: dict[str, Any] = {}
    for suite in suites:
        observation, state = observe_start(suite, RENDER_SIZE)
        arrays[f"{suite}.state"], arrays[f"{suite}.proprio"] = state, observation.proprio
        for camera in CAMERAS:
            arrays[f"{suite}.{camera}"] = small(observation.images[camera])
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def check_golden_frame(suite: str, path: Path = FOLDER / FRAMES) -> Check:
    """Compare the simulator's start of a suite's first task with the stored one."""
    name = "golden-frame"
    with np.load(path, allow_pickle=False) as arrays:
        if f"{suite}.state" not in arrays:
            return Check(name, "skipped", f"no frame is stored for {suite}")
        stored = {key.partition(".")[2]: arrays[key] for key in arrays if key.partition(".")[0] == suite}
    observation, state = observe_start(suite, RENDER_SIZE)
    errors = {camera: mean_error(small(observation.images[camera]), stored[camera]) for camera in CAMERAS}
    moved = float(np.abs(state - stored["state"]).max()) if state.shape == stored["state"].shape else np.inf
    good = max(errors.values()) <= FRAME_TOLERANCE and moved <= STATE_TOLERANCE
    pictures = ", ".join(f"{camera} {error:.3f}" for camera, error in errors.items())
    detail = (
        f"{suite} task 0: mean picture error {pictures} (at most {FRAME_TOLERANCE}), largest difference of the state "
        f"{moved:.2g} (at most {STATE_TOLERANCE})"
    )
    return Check(name, "passed" if good else "failed", detail)


def check_published_observation(path: Path = FOLDER / PUBLISHED) -> Check:
    """Compare with an observation that the authors of OpenVLA-OFT published: libero_spatial, task 0, state 0."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as arrays:
        published = {key: arrays[key] for key in ("full_image", "wrist_image", "state")}
    observation, _ = observe_start("libero_spatial", 256)
    errors = {}
    for key, camera in zip(("full_image", "wrist_image"), CAMERAS, strict=True):
        frame = Image.fromarray(np.ascontiguousarray(rotate_180(observation.images[camera])))
        size = published[key].shape[1::-1]
        errors[camera] = mean_error(np.asarray(frame.resize(size, Image.Resampling.LANCZOS)), published[key])
    off = float(np.abs(observation.proprio - published["state"]).max())
    good = max(errors.values()) <= PUBLISHED_TOLERANCE and off <= PROPRIO_TOLERANCE
    pictures = ", ".join(f"{camera} {error:.2f}" for camera, error in errors.items())
    detail = (
        f"OpenVLA-OFT's published observation: mean picture error {pictures} (at most {PUBLISHED_TOLERANCE:g}), "
        f"largest difference of the robot state {off:.2g} (at most {PROPRIO_TOLERANCE:g})"
    )
    return Check("published-observation", "passed" if good else "failed", detail)


def mean_error(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two uint8 images of one shape."""
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).mean())
