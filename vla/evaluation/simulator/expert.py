"""A scripted expert with privileged state: works through the task's goals with its skills, checking and retrying."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import numpy as np

from vla.evaluation.simulator.dragging import drag, is_dish_to_drag
from vla.evaluation.simulator.furniture import open_drawer, push_shut, turn_knob
from vla.evaluation.simulator.grasping import Grasp, blockage, plan_grasp, plan_leaning, surroundings
from vla.evaluation.simulator.joints import JointGoal, joint_goal
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.mistakes import LostHand, MissedGrasp
from vla.evaluation.simulator.motion import Hand, command
from vla.evaluation.simulator.pick_place import pick, place
from vla.evaluation.simulator.placing import ExpertError, drawer_of, placement_for, way_out

__all__ = ["ExpertError", "ScriptedExpert"]

LEAN = 0.4  # radians from looking down, away from an open drawer that the object stands beside
_TRIES = 3  # of one goal before giving up
# Drawers have to be open before something goes in, and shut last.
_ORDER = {"open": 0, "turnon": 1, "turnoff": 1, "in": 2, "on": 2, "close": 3}


class ScriptedExpert:
    """Yields one action per control step; reads the simulator's state, so it also recovers from disturbed actions.

    Args:
        env: the task, just reset.
        rim_angle: where to hold a bowl, in radians; None lets the planner choose.
        mistake: what goes wrong in the beginning; None: nothing.

    Attributes:
        erring: whether the last action was part of the mistake.
        finished: whether the script has run to its end.
        used_rim: whether it has planned to hold something by the rim.

    Raises:
        ExpertError: at construction, no script for the task's goals.
    """

    def __init__(
        self, env: LiberoEnv, rim_angle: float | None = None, mistake: LostHand | MissedGrasp | None = None
    ) -> None:  # fmt: skip
        self._env = env
        self._rim_angle = rim_angle
        self._mistake = mistake
        self.erring = False
        self._hand = Hand(env)
        self._goals = steps_for(env)
        self._crowded = len(env.goals) > 1  # more stands in the way, also what has been put down before
        self._gave_up = False
        self._script = self._run()
        self.finished = False
        self.used_rim = False

    @property
    def phase(self) -> str:
        """What it is doing, for messages."""
        return "finished" if self.finished else self._hand.phase

    def act(self) -> np.ndarray:
        """Return the next action [7] in [-1, 1]; idles with an open gripper when the script is over."""
        action = next(self._script, None)
        if action is None:
            self.finished = True
            action = command(np.zeros(3), np.zeros(3))
        return action

    def _run(self) -> Iterator[np.ndarray]:
        if isinstance(self._mistake, LostHand):
            self.erring = True
            yield from self._mistake.wander(self._hand)
            self.erring = False
        for goal in self._goals:
            if is_dish_to_drag(self._env, goal):
                yield from self._drag(goal)
            elif goal[0] in ("in", "on"):
                yield from self._pick_and_place(goal)
            else:
                yield from self._operate(joint_goal(self._env, goal))
            if self._gave_up:
                return

    def _pick_and_place(self, goal: list[str]) -> Iterator[np.ndarray]:
        if isinstance(self._mistake, MissedGrasp) and (yield from self._miss(goal, self._mistake)):
            return
        for attempt in range(_TRIES):
            if attempt and self._crowded and self._env.inner._eval_predicate(goal):
                return  # it slipped out of the hand, but into its place
            grasp = self._plan(goal, attempt)
            self.used_rim |= grasp.kind == "rim"
            if not (yield from pick(self._hand, goal[1], grasp, self._crowded)):
                continue
            if (yield from place(self._hand, goal[1], placement_for(self._env, goal), grasp)):
                return
        self._gave_up = True

    def _miss(self, goal: list[str], mistake: MissedGrasp) -> Generator[np.ndarray, None, bool]:
        """Grasp where the object is not and go on for a while; whether it was caught and placed after all."""
        self._mistake, self.erring = None, True
        grasp, goes_to = mistake.displace(self._plan(goal, 0)), placement_for(self._env, goal)
        self.used_rim |= grasp.kind == "rim"
        caught = yield from pick(self._hand, goal[1], grasp, self._crowded)
        if not caught:
            yield from mistake.go_on(self._hand, grasp, goes_to.centre)
        self.erring = False
        return caught and (yield from place(self._hand, goal[1], goes_to, grasp))

    def _drag(self, goal: list[str]) -> Iterator[np.ndarray]:
        for _ in range(_TRIES):
            if self._env.inner._eval_predicate(goal):
                return
            yield from drag(self._hand, goal[1], goal[2])
        self._gave_up = not self._env.inner._eval_predicate(goal)

    def _plan(self, goal: list[str], attempt: int) -> Grasp:
        """How to hold the goal's object: from above, or, if it goes into furniture, leaning away from that."""
        env, name, angle = self._env, goal[1], self._rim_angle
        grasp = plan_grasp(env, name, angle, lower=0.005 * attempt)
        drawer = drawer_of(env, goal[2]) if goal[0] == "in" else None
        if drawer is not None and blockage(surroundings(env, name), grasp.position, grasp.yaw) > 0.0:
            shift = placement_for(env, goal).shift(env, name)
            return plan_leaning(env, name, way_out(env, drawer), LEAN, shift, angle)
        return grasp

    def _operate(self, goal: JointGoal) -> Iterator[np.ndarray]:
        for _ in range(_TRIES):
            if goal.done():
                return
            yield from skill_for(goal)(self._hand, goal)
        self._gave_up = not goal.reached()


def steps_for(env: LiberoEnv) -> list[list[str]]:
    """Put a task's goals into an order that works, with the drawers opened that they need open.

    Raises:
        ExpertError: no script for one of them.
    """
    goals = sorted(env.goals, key=lambda goal: _ORDER.get(goal[0], 0))
    opened = []
    for goal in goals:
        if goal[0] not in ("in", "on"):
            skill_for(joint_goal(env, goal))
            continue
        placement_for(env, goal)
        if goal[0] == "in" and drawer_of(env, goal[2]) is not None:
            drawer = joint_goal(env, ["open", goal[2]])
            if not drawer.done():
                opened.append(["open", goal[2]])
    return opened + goals


def skill_for(goal: JointGoal) -> Callable[[Hand, JointGoal], Iterator[np.ndarray]]:
    """Choose how to bring a joint where its goal wants it.

    Raises:
        ExpertError: a door to be opened.
    """
    if goal.goal[0] in ("turnon", "turnoff"):
        return turn_knob
    if goal.goal[0] == "close":
        return push_shut
    if goal.slides:
        return open_drawer
    raise ExpertError(f"no script for the goal {list(goal.goal)}: the door of {goal.owner} can't be opened")
