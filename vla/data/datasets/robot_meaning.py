"""Which fields of a robot dataset a model gets, and what they mean: what files don't say must have been stated."""

from typing import Any

from vla.conf.robot_datasets import LIBERO_PRESETS, PRESETS, ConventionsConfig, RobotDataConfig
from vla.data.conventions import LIBERO_CONVENTIONS, Conventions
from vla.data.datasets.robot_files import Fields, Keys, RobotFiles, choose_key, default_keys
from vla.errors import UserError

_ACTIONS = ("action", "actions")
_STATES = ("observation.state", "observation/state", "state")
_TEXTS = ("task_index", "language_instruction", "natural_language_instruction", "task")
_MUST = ("action_units", "action_frame", "rotation", "gripper_open", "gripper_closed", "camera_orientation")


def choose_keys(config: RobotDataConfig, fields: Fields, cameras: tuple[str, ...], proprio: bool) -> Keys:
    """Which fields are read.

    Args:
        config: with its preset's values.
        fields: what there is.
        cameras: the model's names of cameras.
        proprio: whether the model sees the robot's state.

    Raises:
        UserError: a key is not there, or there is no telling which is meant.
    """
    numbers = list(fields.numbers)
    actions = _named(config.action_keys, numbers, "dataset.action_keys") or default_keys(numbers, _ACTIONS)
    if not actions:
        raise UserError(f"dataset.action_keys: must name what holds the actions; there are {_listed(numbers)}")
    states: tuple[str, ...] = ()
    if proprio:
        states = _named(config.state_keys, numbers, "dataset.state_keys") or default_keys(numbers, _STATES)
        if not states:
            rule = "must name what holds the robot's state, or model.processor.proprio be false"
            raise UserError(f"dataset.state_keys: {rule}; there are {_listed(numbers)}")
    texts = list(fields.texts)
    if config.instruction_key is not None:
        instruction = choose_key(config.instruction_key, texts, "dataset.instruction_key")
    else:
        found = default_keys(texts, _TEXTS)
        if not found:
            raise UserError(f"dataset.instruction_key: must name what holds instructions; there are {_listed(texts)}")
        instruction = found[0]
    return Keys(_choose_cameras(config.cameras, fields, cameras), actions, states, instruction)


def _choose_cameras(asked: tuple[str, ...], fields: Fields, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """A key for each of the model's cameras, in its order."""
    known = list(fields.images)
    if asked:
        chosen = _named(asked, known, "dataset.cameras")
        rule = f"must name a key for each of model.processor.cameras ({_listed(list(cameras))})"
    else:
        named = [default_keys(known, (camera,)) for camera in cameras]
        chosen = tuple(key for found in named for key in found) if all(named) else tuple(known)
        rule = f"must name a key for each of model.processor.cameras ({_listed(list(cameras))}), in their order"
    if len(chosen) != len(cameras):
        raise UserError(f"dataset.cameras: {rule}; the dataset has {_listed(known)}")
    return chosen


def _named(asked: tuple[str, ...], known: list[str], field_name: str) -> tuple[str, ...]:
    return tuple(choose_key(key, known, field_name) for key in asked)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def conventions_of(config: RobotDataConfig, fields: Fields, keys: Keys, preset_fps: float | None) -> Conventions:
    """What the numbers and pictures mean.

    Args:
        config: with its preset's values.
        fields: what the files say.
        keys: the fields that are read.
        preset_fps: of the preset, for files that don't say it.

    Raises:
        UserError: something is neither said by the files nor stated, or what is stated doesn't fit.
    """
    stated = config.conventions
    missing = [f"conventions.{name}" for name in _MUST if getattr(stated, name) in (None, ())]
    fps = _steps_per_second(config, fields, preset_fps)
    if fps is None:
        missing.append("fps")
    if missing or fps is None:
        raise UserError(
            f"dataset.conventions: the files don't say what these are, and nothing is assumed: {', '.join(missing)}; "
            f"state them, or take a --dataset.preset ({', '.join(PRESETS)})"
        )
    if stated.gripper != "as_stored" and (stated.gripper_open, stated.gripper_closed) != (1.0, 0.0):
        raise UserError(
            f"dataset.conventions.gripper: '{stated.gripper}' makes commands 1 open and 0 closed, state that with "
            f"gripper_open and gripper_closed, got {stated.gripper_open:g} and {stated.gripper_closed:g}"
        )
    names = _names(stated.action_names, fields, keys.actions, "action_names")
    states = _names(stated.proprio_names, fields, keys.states, "proprio_names")
    scale = _of_length(stated.action_scale or (1.0,) * len(names), len(names), "action_scale")
    proprio_units = stated.proprio_units or ("not stated",) * len(states)
    assert stated.action_frame and stated.rotation and stated.camera_orientation  # of _MUST
    assert stated.gripper_open is not None and stated.gripper_closed is not None
    of_libero = config.preset in LIBERO_PRESETS
    return Conventions(
        action_names=names,
        action_units=_of_length(stated.action_units, len(names), "action_units"),
        action_scale=scale,
        action_frame=stated.action_frame,
        rotation=stated.rotation,
        gripper_open=stated.gripper_open,
        gripper_closed=stated.gripper_closed,
        control_hz=fps,
        proprio_names=states,
        proprio_units=_of_length(proprio_units, len(states), "proprio_units"),
        camera_orientation=stated.camera_orientation,
        observation_alignment="before",  # whatever the files', samples have it so
        wait_steps=LIBERO_CONVENTIONS.wait_steps if of_libero else None,
        horizons=LIBERO_CONVENTIONS.horizons if of_libero else {},
    )


def _steps_per_second(config: RobotDataConfig, fields: Fields, preset: float | None) -> float | None:
    if config.fps is not None and fields.fps is not None and config.fps != fields.fps:
        raise UserError(f"dataset.fps: the files say {fields.fps:g}, got {config.fps:g}; leave it out")
    return next((fps for fps in (config.fps, fields.fps, preset) if fps is not None), None)


def _names(stated: tuple[str, ...], fields: Fields, keys: tuple[str, ...], name: str) -> tuple[str, ...]:
    said = tuple(item for key in keys for item in fields.numbers[key])
    return _of_length(stated, len(said), name) if stated and keys else stated or said


def _of_length(values: tuple[Any, ...], length: int, name: str) -> tuple[Any, ...]:
    if len(values) != length:
        raise UserError(f"dataset.conventions.{name}: must have {length} values, got {len(values)} ({values})")
    return values


def describe(
    name: str, files: RobotFiles, config: RobotDataConfig, keys: Keys, meaning: Conventions, cameras: dict[str, str]
) -> str:
    """One line about what is read and what it was stated to mean."""
    seen = ", ".join(f"{camera} = {key}" for camera, key in cameras.items())
    states = f"; proprio = {' + '.join(keys.states)}" if keys.states else ""
    source = f"preset {config.preset}" if config.preset else "stated"
    stated: ConventionsConfig = config.conventions
    return (
        f"{name}: {files.layout}, {meaning.control_hz:g} steps/s; {seen}; actions = {' + '.join(keys.actions)}{states}"
        f"; instructions = {keys.instruction}; conventions ({source}): {meaning.action_frame}; "
        f"rotation {meaning.rotation}; gripper {stated.gripper}, {meaning.gripper_open:g} open, "
        f"{meaning.gripper_closed:g} closed; pictures {meaning.camera_orientation}; observations "
        f"{stated.observation_alignment} their action"
    )
