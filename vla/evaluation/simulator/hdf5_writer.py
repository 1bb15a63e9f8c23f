"""Writing demonstrations in the official LIBERO HDF5 layout, with the observation taken before its action."""

from __future__ import annotations

import json
import sysconfig
from typing import Any

import h5py
import numpy as np

from vla.conf.libero import WAIT_STEPS
from vla.evaluation.simulator.episodes import HOLD_STEPS, Rollout
from vla.evaluation.simulator.libero_env import ARM_NOISE, LiberoEnv, quat_to_axis_angle
from vla.evaluation.simulator.runtime import LiberoTask

CAMERA_KEYS = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"}
# Frames and rows per chunk. A still camera repeats its rows from frame to frame, so long and low chunks let gzip,
# which looks back 32 KB, find the repetition: 4.5 KB a frame against 31 KB with a chunk per frame. The wrist's
# camera always moves; long chunks gain it 10 % and cost ten times the reading, so it has short ones.
IMAGE_CHUNKS = {"agentview": (32, 8), "robot0_eye_in_hand": (4, 32)}
SITE_PACKAGES = "{SITE_PACKAGES}"  # stands for the machine's own package folder in the stored model


def write_demo(group: h5py.Group, rollout: Rollout, model_xml: str, compression: int) -> None:
    """Fill one `demo_i` group from a rendered rollout.

    Args:
        group: empty.
        rollout: a success with observations.
        model_xml: the MuJoCo model, with machine paths replaced.
        compression: gzip level 1 to 9, or 0 for none.
    """
    steps = len(rollout.actions)
    observations = rollout.observations
    last = np.zeros(steps, dtype=np.uint8)
    last[-1] = 1
    position = np.stack([o.eef_pos for o in observations])
    quat = np.stack([o.eef_quat for o in observations])
    orientation = np.stack([quat_to_axis_angle(q) for q in quat])
    gripper = np.stack([o.gripper_qpos for o in observations])
    arrays = {
        "actions": rollout.actions,
        "expert_actions": rollout.expert_actions,
        "states": rollout.states,
        "robot_states": np.concatenate([gripper, position, quat], axis=1),
        "rewards": last,
        "dones": last,
        "obs/ee_pos": position,
        "obs/ee_ori": orientation,
        "obs/ee_states": np.concatenate([position, orientation], axis=1),
        "obs/gripper_states": gripper,
        "obs/joint_states": np.stack([o.joint_pos for o in observations]),
    }
    options: dict[str, Any] = {"compression": "gzip", "compression_opts": compression} if compression else {}
    for name, array in arrays.items():
        group.create_dataset(name, data=array, chunks=array.shape if compression else None, **options)
    for camera, name in CAMERA_KEYS.items():
        frames = np.stack([o.images[camera] for o in observations])
        chunk = (*np.minimum(IMAGE_CHUNKS[camera], frames.shape[:2]), *frames.shape[2:])
        group.create_dataset(f"obs/{name}", data=frames, chunks=chunk if compression else None, **options)
    group.attrs["num_samples"] = steps
    group.attrs["init_state"] = rollout.states[0]
    group.attrs["model_file"] = model_xml
    group.attrs["seed"] = rollout.seed
    group.attrs["reset_state"] = rollout.reset_state
    group.attrs["success_step"] = rollout.success_step
    group.attrs["learn_from"] = rollout.learn_from


def portable_model(env: LiberoEnv) -> str:
    """Return the MuJoCo model as XML with the machine's package folder replaced by {SITE_PACKAGES}."""
    xml = str(env.sim.model.get_xml())
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        xml = xml.replace(folder, SITE_PACKAGES)
    return xml


def write_file_attributes(data: h5py.Group, env: LiberoEnv, recipe: dict[str, Any]) -> None:
    """Describe a task's file on its `data` group: the official attributes, and where the demonstrations come from."""
    task = env.task
    problem = type(env.inner).__name__
    # A variant's problem lies beside its demonstrations, an official one in LIBERO's package.
    bddl_file = f"bddl/{task.bddl_file.name}" if task.variant_of else f"bddl_files/{task.suite}/{task.bddl_file.name}"
    env_args = {
        "type": 1,
        "env_name": problem,
        "problem_name": problem.lower(),
        "bddl_file": bddl_file,
        "env_kwargs": {**env.env_kwargs, "bddl_file_name": bddl_file},
    }
    problem_info = {
        "problem_name": problem.lower(),
        "domain_name": "robosuite",
        "language_instruction": task.language,
        "bddl_language_instruction": env.bddl_language,
    }
    official = {
        "env_name": problem,
        "env_args": json.dumps(env_args),
        "problem_info": json.dumps(problem_info),
        "macros_image_convention": "opengl",
        "bddl_file_name": bddl_file,
        "bddl_file_content": task.bddl_file.read_text(),
    }
    data.attrs.update({**official, **_provenance(env, task), "recipe": json.dumps(recipe, sort_keys=True)})


def _provenance(env: LiberoEnv, task: LiberoTask) -> dict[str, Any]:
    return {
        "suite": task.suite,
        "task_index": task.index,
        "task_name": task.name,
        **({"variant_of": task.variant_of} if task.variant_of else {}),
        "language": task.language,
        "obs_alignment": "before_action",
        "image_orientation": "opengl (rows bottom-up)",
        "gripper_convention": "action -1 opens, +1 closes",
        "action_convention": "delta pose in the world frame, [-1, 1] = 0.05 m and 0.5 rad per 1/20 s step, relative to "
        "the current pose",
        "placements": "random seeds >= 1000 (not the official evaluation states)",
        "collector": "scripted expert with privileged state; expert_actions are those before noise was added",
        "learn_from": "demo attribute: the steps before it belong to a mistake made on purpose; learn from those after",
        "wait_steps": WAIT_STEPS,
        "hold_steps": HOLD_STEPS,
        "arm_start_noise_rad": ARM_NOISE,
        "replay": "reset_to(demo attribute reset_state, demo attribute seed), then actions: the same states bit for "
        "bit",
        "versions": json.dumps(env.versions, sort_keys=True),
    }
