"""From a client's message to what a policy is asked, whichever client it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.conf.errors import one_line
from vla.errors import UserError
from vla.serving.policy_server.contract import Served

# Where the clients of OpenVLA, OpenVLA-OFT and openpi put things; ours send `images` by camera.
_MAIN = ("image", "full_image", "observation/image", "observation/exterior_image_1_left")
_WRIST = ("wrist_image", "observation/wrist_image", "observation/wrist_image_left")
_STATE = ("proprio", "state", "observation/state")
_INSTRUCTION = ("instruction", "prompt")
_WRIST_WORDS = ("hand", "wrist", "gripper")
_SIDES = (8, 4096)  # pixels
_MAX_INSTRUCTION = 2000  # characters


@dataclass(frozen=True)
class Observed:
    """
    A message that was understood.

    Attributes:
        frames: uint8 [T, cameras, H, W, 3] as stored in training files; T is 1, or all frames that the policy sees.
        proprio: float64 [8], zeros where the policy doesn't look at it.
        instruction: what to do.
        session: the robot whose chunk is executed here, step by step; None: the whole chunk is the answer.
        reset: a new episode of the session begins.
        step: control steps that the episode has executed, as the client counts them.
        seed: of what the policy draws.
    """

    frames: np.ndarray
    proprio: np.ndarray
    instruction: str
    session: str | None = None
    reset: bool = False
    step: int = 0
    seed: int = 0


def read_observation(message: Any, served: Served) -> Observed:
    """
    Understand a message.

    Args:
        message: see docs/serving.md for the fields.
        served: what the policy needs.

    Raises:
        UserError: a field is missing or wrong; one line.
    """
    if not isinstance(message, Mapping):
        raise UserError(f"message: must be an object, got {type(message).__name__}")
    key = message.get("unnorm_key")
    if key is not None and served.unnorm_keys and key not in served.unnorm_keys:
        names = ", ".join(served.unnorm_keys)
        raise UserError(f"unnorm_key: must be {names}, whose statistics are served, or left out, got {_short(key)}")
    session = message.get("session")
    if session is not None and not (isinstance(session, str) and 0 < len(session) <= 128):
        raise UserError(f"session: must be a name of at most 128 characters, got {_short(session)}")
    return Observed(
        np.ascontiguousarray(served.flip(_read_frames(message, served))), _read_proprio(message, served),
        _read_instruction(message), session, message.get("reset") is True, _read_count(message, "step"),
        _read_count(message, "seed"),
    )  # fmt: skip


def _read_frames(message: Mapping[str, Any], served: Served) -> np.ndarray:
    """uint8 [T, cameras, H, W, 3] as sent."""
    by_camera: list[np.ndarray] = []
    for camera in served.cameras:
        name, value = _find_image(message, camera, served)
        frames = _pixels(value, name)
        if len(frames) not in (1, served.num_frames):
            raise UserError(f"{name}: must hold 1 or {served.num_frames} frames, got {len(frames)}")
        if by_camera and frames.shape != by_camera[0].shape:
            raise UserError(f"{name}: must be of the first camera's shape {by_camera[0].shape}, got {frames.shape}")
        by_camera.append(frames)
    return np.stack(by_camera, axis=1)


def _find_image(message: Mapping[str, Any], camera: str, served: Served) -> tuple[str, Any]:
    images = message.get("images")
    if isinstance(images, Mapping) and camera in images:
        return f"images.{camera}", images[camera]
    wrist = any(word in camera for word in _WRIST_WORDS)
    others = [name for name in served.cameras if any(word in name for word in _WRIST_WORDS) == wrist]
    names = [camera]
    if others[0] == camera:  # a second camera of its kind has no other name
        names += list(_WRIST if wrist else _MAIN)
    for name in names:
        if name in message:
            return name, message[name]
    raise UserError(f"images.{camera}: must be given, as the policy sees {', '.join(served.cameras)}, got none")


def _pixels(value: Any, name: str) -> np.ndarray:
    """uint8 [T, H, W, 3] of one image or several; channels may come first, and floats in [0, 1] are pixels, too."""
    pixels = _numbers(value, name)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim == 4 and pixels.shape[1] == 3 and pixels.shape[3] != 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    low, high = _SIDES
    if pixels.ndim != 4 or pixels.shape[3] != 3 or not all(low <= side <= high for side in pixels.shape[1:3]):
        raise UserError(f"{name}: must be height x width x 3, sides {low} to {high}, got shape {pixels.shape}")
    if pixels.dtype.kind == "f":
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise UserError(f"{name}: pixels of type {pixels.dtype} must be within [0, 1]; or send uint8")
        return (pixels * 255).round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
            raise UserError(f"{name}: pixels must be uint8, got {pixels.dtype}")
        return pixels.astype(np.uint8)
    return pixels


def _read_proprio(message: Mapping[str, Any], served: Served) -> np.ndarray:
    dim = served.proprio_dim
    if dim is None:
        return np.zeros(8)
    name = next((name for name in _STATE if name in message), None)
    if name is None:
        raise UserError(f"proprio: must be given, the {dim} numbers of the robot's state, got none")
    state = _numbers(message[name], name).astype(np.float64)
    if state.shape != (dim,) or not np.isfinite(state).all():
        raise UserError(f"{name}: must be {dim} finite numbers, got {_short(state.tolist())}")
    return state


def _read_instruction(message: Mapping[str, Any]) -> str:
    name = next((name for name in _INSTRUCTION if name in message), _INSTRUCTION[0])
    text = message.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > _MAX_INSTRUCTION:
        raise UserError(f"{name}: must be a text of 1 to {_MAX_INSTRUCTION} characters, got {_short(text)}")
    return text.encode("utf-8", "replace").decode()  # lone surrogates, which no tokenizer takes, become "?"


def _read_count(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**63:
        raise UserError(f"{name}: must be a whole number >= 0, got {_short(value)}")
    return value


def _numbers(value: Any, name: str) -> np.ndarray:
    """An array, or nested lists as one."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{name}: must be an array ({one_line(error)[:80]})") from error
    if array.dtype.kind not in "iuf" or not array.size:
        raise UserError(f"{name}: must be an array of numbers, got {_short(value)}")
    return array


def _short(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
