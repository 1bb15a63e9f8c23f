"""The expert's hand: servo commands toward poses of the grip site, which the operational space controller follows."""

from __future__ import annotations

import numpy as np

from vla.evaluation.simulator.libero_env import ACTION_DIM, OPEN, LiberoEnv

# One unit of action commands this much, relative to the current pose.
METRES_PER_UNIT, RADIANS_PER_UNIT = 0.05, 0.5
_GAIN = 1.6  # the controller covers about a quarter of a command per step; more gain makes it overshoot
# The grip site looking down with its jaws, along its own x axis, on the world's y axis: the arm's start pose.
TOOL_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


def looking_down(yaw: float) -> np.ndarray:
    """Orientation [3, 3] of a grip site that looks down; 0 closes the jaws along the world's y axis."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ TOOL_DOWN


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Turn a rotation matrix [3, 3] into an axis-angle vector [3] in radians, of length at most pi."""
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / 2
    sine, cosine = np.linalg.norm(axis), (np.trace(matrix) - 1) / 2
    if sine < 1e-9:  # no turn, or half a turn, which the hand never needs
        return np.zeros(3)
    return axis / sine * np.arctan2(sine, cosine)


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix [3, 3] by `angle` radians about a unit vector [3]."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


class Hand:
    """The gripper of a task's robot, and what the script is doing with it.

    Args:
        env: the task.

    Attributes:
        phase: what the script is doing, for messages.
    """

    def __init__(self, env: LiberoEnv) -> None:
        self.env = env
        self.phase = "start"

    def position(self) -> np.ndarray:
        """[3] metres, world: the grip site, between the finger tips."""
        return np.array(self.env.sim.data.get_site_xpos("gripper0_grip_site"))

    def rotation(self) -> np.ndarray:
        """[3, 3]: columns are the jaw axis, the axis across the jaws, and where the fingers point."""
        return np.array(self.env.sim.data.get_site_xmat("gripper0_grip_site"))

    def fingers(self) -> float:
        """Distance in metres between the fingers."""
        left, right = self.env.sim.data.qpos[self.env.inner.robots[0]._ref_gripper_joint_pos_indexes]
        return float(left - right)

    def turn(self, rotation: np.ndarray) -> np.ndarray:
        """Axis-angle [3] in the world frame from the present orientation to another [3, 3]."""
        return rotation_vector(rotation @ self.rotation().T)

    def servo(self, target: np.ndarray, rotation: np.ndarray, grip: float, speed: float) -> np.ndarray:
        """Return the action [7] towards a pose.

        Args:
            target: [3] metres, world.
            rotation: [3, 3].
            grip: -1 opens, +1 closes.
            speed: the most of the action's range that a direction of motion may take.
        """
        offset = _GAIN * (target - self.position()) / METRES_PER_UNIT
        return command(np.clip(offset, -speed, speed), self.turn(rotation) / RADIANS_PER_UNIT, grip)


def command(move: np.ndarray, turn: np.ndarray, grip: float = OPEN) -> np.ndarray:
    """Put an action [7] together from motions [3] and [3] in units of the action, clipped to its range."""
    action = np.empty(ACTION_DIM)
    action[:3] = np.clip(move, -1.0, 1.0)
    action[3:6] = np.clip(turn, -1.0, 1.0)
    action[6] = grip
    return action
