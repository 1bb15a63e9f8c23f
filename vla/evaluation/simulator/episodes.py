"""Expert episodes: search for a success without cameras, then play it again with cameras, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla.conf.libero import WAIT_STEPS
from vla.evaluation.simulator.expert import ScriptedExpert
from vla.evaluation.simulator.libero_env import LiberoEnv, Observation
from vla.evaluation.simulator.mistakes import LostHand, MissedGrasp

HOLD_STEPS = 10  # the goal must hold this long, as in LIBERO's own collection, so that the release is part of a demo
RIM_ANGLES: tuple[float | None, ...] = (None, np.pi, 2 * np.pi / 3, 0.0, 5 * np.pi / 3)


class ReplayError(RuntimeError):
    """A replayed episode left the states it was recorded with."""


@dataclass(frozen=True)
class Disturbances:
    """What happens to the expert, so that its demonstrations show how to recover.

    Attributes:
        noise: standard deviation of Gaussian noise on the six motion dimensions of every action.
        noise_hold: steps for which a draw of the noise is kept; the longer, the further it pushes the hand off its way,
            and the more of the recovery is seen.
        noise_share: probability that a draw is not zero; pushes with pauses between them leave time to recover.
        missed_grasps: probability that the first grasp of an episode misses on purpose (`MissedGrasp`).
        lost_hands: probability that an episode begins with the hand lost (`LostHand`); at most 1 with that above.
    """

    noise: float = 0.0
    noise_hold: int = 1
    noise_share: float = 1.0
    missed_grasps: float = 0.0
    lost_hands: float = 0.0

    def mistake(self, seed: int) -> LostHand | MissedGrasp | None:
        """What goes wrong in the episode of a seed."""
        generator = np.random.default_rng([seed, 2])
        draw = generator.random()
        if draw < self.missed_grasps:
            return MissedGrasp.draw(generator)
        return LostHand.draw(generator) if draw < self.missed_grasps + self.lost_hands else None

    def pushes(self, seed: int) -> Iterator[np.ndarray]:
        """Yield [6] to add to the motion of every action."""
        generator = np.random.default_rng([seed, 1])  # another stream than the arm's start noise
        while self.noise > 0.0:
            push = generator.normal(0.0, self.noise, size=6) * (generator.random() < self.noise_share)
            yield from itertools.repeat(push, self.noise_hold)
        yield from itertools.repeat(np.zeros(6))


NONE = Disturbances()


@dataclass(frozen=True)
class Rollout:
    """One expert episode of T control steps; row t belongs to the moment before action t.

    Attributes:
        seed: of fixtures and, if the state was drawn, placements.
        reset_state: [1 + nq + nv] before the objects settled; `reset_to(reset_state, seed)` starts the episode.
        states: [T, 1 + nq + nv].
        actions: [T, 7] as executed, in [-1, 1].
        expert_actions: [T, 7] as the expert asked, without the noise.
        success_step: the number of actions after which the goal first held; None for a failure.
        success: whether the goal held for HOLD_STEPS in a row.
        rim_grasp: whether a rim was held, so that another angle would be another way.
        learn_from: the number of actions that were part of a mistake on purpose or went before it.
        observations: T observations, with images if the episode was rendered.
    """

    seed: int
    reset_state: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    expert_actions: np.ndarray
    success_step: int | None
    success: bool
    rim_grasp: bool
    learn_from: int = 0
    observations: tuple[Observation, ...] = ()


def play_expert(
    env: LiberoEnv,
    seed: int,
    initial_state: np.ndarray | None = None,
    disturbances: Disturbances = NONE,
    rim_angle: float | None = None,
    horizon: int | None = None,
    wait_steps: int = WAIT_STEPS,
) -> Rollout:
    """Let the expert play one episode without rendering.

    Args:
        env: the task.
        seed: see `LiberoEnv.reset_to`; also of the disturbances.
        initial_state: [1 + nq + nv] or None for random placements.
        disturbances: what happens to it.
        rim_angle: see `ScriptedExpert`.
        horizon: most control steps; None takes the suite's.
        wait_steps: idle steps before the episode.
    """
    env.reset_to(initial_state, seed, wait_steps=wait_steps, render=False)
    expert = ScriptedExpert(env, rim_angle, disturbances.mistake(seed))
    pushes = disturbances.pushes(seed)
    states, executed, asked = [], [], []
    held, success_step, learn_from = 0, None, 0
    for step in range(env.task.horizon if horizon is None else horizon):
        intended = expert.act()
        action = intended.copy()
        action[:6] = np.clip(action[:6] + next(pushes), -1.0, 1.0)
        states.append(env.state)
        executed.append(action)
        asked.append(intended)
        _, reached = env.step(action, render=False)
        held = held + 1 if reached else 0
        if expert.erring:
            learn_from = step + 1
        if reached and success_step is None:
            success_step = step + 1
        if held == HOLD_STEPS or (expert.finished and held == 0):
            break
    arrays = (np.stack(states), np.stack(executed), np.stack(asked))
    return Rollout(seed, env.reset_state, *arrays, success_step, held == HOLD_STEPS, expert.used_rim, learn_from)


def search_success(
    env: LiberoEnv,
    seed: int,
    initial_state: np.ndarray | None = None,
    rim_angles: Sequence[float | None] = RIM_ANGLES,
) -> tuple[Rollout, int]:
    """Try the ways of grasping in turn until one succeeds; an object held across its body has only one.

    Returns:
        The first success, or the last failure; and the number of tries.
    """
    tries = 0
    for angle in rim_angles:
        tries += 1
        rollout = play_expert(env, seed, initial_state, rim_angle=angle)
        if rollout.success or not rollout.rim_grasp:
            break
    return rollout, tries


def replay(env: LiberoEnv, rollout: Rollout, wait_steps: int = WAIT_STEPS) -> Rollout:
    """Play a rollout's actions again with cameras and attach the observations.

    Raises:
        ReplayError: a state differs from the recorded one in any bit, or the outcome does.
    """
    observation = env.reset_to(rollout.reset_state, rollout.seed, wait_steps=wait_steps)
    observations, reached = [], False
    for step, action in enumerate(rollout.actions):
        if not np.array_equal(env.state, rollout.states[step]):
            raise ReplayError(f"{env.task.name}, seed {rollout.seed}: the replay differs at step {step}")
        observations.append(observation)
        # The picture after the last action belongs to no recorded step.
        observation, reached = env.step(action, render=step + 1 < len(rollout.actions))
    if reached != rollout.success:
        raise ReplayError(f"{env.task.name}, seed {rollout.seed}: the replay's outcome differs")
    return replace(rollout, observations=tuple(observations))
