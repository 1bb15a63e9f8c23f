"""What an evaluation plays: tasks and their instructions, the policy, the protocol, and the episodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.libero import SUITE_HORIZONS, WAIT_STEPS
from vla.errors import UserError
from vla.evaluation.simulator.audit import CONTRACT, check_contract
from vla.evaluation.simulator.chunks import check_overlap
from vla.evaluation.simulator.demonstrations import find_demonstration_file, read_demonstrations
from vla.evaluation.simulator.golden import Check
from vla.evaluation.simulator.messages import Episode, Job
from vla.evaluation.simulator.protocol import PUBLISHED_IMAGE_SIZE, Protocol, suite_name
from vla.serving.policy import ActingPolicy, ExpertPolicy, Policy, RandomPolicy, ReplayPolicy, ZeroPolicy

DEFAULT_EXECUTE_STEPS = 8

Task = dict[str, Any]  # of `audit.describe_suite`, with the `instruction` that the policy is told


def tell_instructions(tasks: list[Task], config: ClosedLoopConfig) -> list[Task]:
    """The chosen tasks, each with its own instruction, or, shuffled, that of the one half the suite further on.

    Raises:
        UserError: a task is chosen that the suite doesn't have.
    """
    for number in config.tasks:
        if number >= len(tasks):
            raise UserError(f"tasks: {config.suite} has the tasks 0 to {len(tasks) - 1}, got {number}")
    shift = len(tasks) // 2 if config.instructions == "shuffled" else 0
    told = [{**task, "instruction": tasks[(i + shift) % len(tasks)]["language"]} for i, task in enumerate(tasks)]
    return [task for task in told if not config.tasks or task["index"] in config.tasks]


def make_policy(
    config: ClosedLoopConfig, trained: Policy | None, demonstrations: Path | None, tasks: list[Task]
) -> ActingPolicy:
    """The policy that is evaluated.

    Args:
        trained: the checkpoint's, if there is one.
        demonstrations: folder of recorded files, for replays.
        tasks: the chosen ones.

    Raises:
        UserError: there is nothing to replay.
    """
    if config.policy == "checkpoint":
        assert trained is not None
        return trained
    if config.policy == "replay":
        return _replay_policy(config, demonstrations, tasks)
    baselines: dict[str, ActingPolicy] = {"expert": ExpertPolicy(), "zero": ZeroPolicy(), "random": RandomPolicy()}
    return baselines[config.policy]


def _replay_policy(config: ClosedLoopConfig, root: Path | None, tasks: list[Task]) -> ReplayPolicy:
    if root is None:
        raise UserError("demonstrations: the checkpoint's training data is not here; name a folder of recorded files")
    found = {}
    for task in tasks:
        path = find_demonstration_file(root, task["name"])
        if path is not None:
            found[task["index"]] = read_demonstrations(path, limit=config.first_init + config.episodes)
    if not found:
        raise UserError(f"demonstrations: no file of a chosen task of {config.suite} in {root}")
    return ReplayPolicy(found)


def make_protocol(config: ClosedLoopConfig, policy: ActingPolicy) -> Protocol:
    """The protocol: published values, what the checkpoint's contract says, and what `config` overrides.

    Raises:
        UserError: checkpoint and simulator don't fit (unless the fields are overridden), a value is out of range, or
            chunks that never overlap are to be averaged.
    """
    chunk, suite = policy.chunk_size, suite_name(config.suite)
    wait_steps, horizon = episode_lengths(suite, policy)
    values: dict[str, Any] = {
        "suite": suite, "horizon": config.horizon or horizon,
        "wait_steps": wait_steps if config.wait_steps is None else config.wait_steps,
        "ensemble": config.ensemble, "seed": config.seed, "image_size": config.image_size or PUBLISHED_IMAGE_SIZE,
        "execute_steps": config.execute_steps or min(chunk, DEFAULT_EXECUTE_STEPS),
    }  # fmt: skip
    if values["execute_steps"] > chunk:
        raise UserError(f"execute_steps: must be at most the policy's chunk of {chunk}, got {values['execute_steps']}")
    check_overlap(chunk, values["execute_steps"], config.ensemble)
    if isinstance(policy, Policy):
        seen = policy.processor.config
        fits = check_contract(policy.processor.contract(), config.override_contract)
        if fits.status == "failed":
            raise audit_error(fits)  # before a camera is asked for that isn't there
        values |= {
            "cameras": seen.cameras, "num_frames": seen.num_frames, "frame_stride": seen.frame_stride,
            "orientation": seen.orientation, "rotation": policy.processor.conventions.rotation,
            "image_size": config.image_size or stored_image_size(policy),
        }  # fmt: skip
    try:
        return Protocol(**values)
    except ValueError as error:
        raise UserError(str(error)) from error


def episode_lengths(suite: str, policy: ActingPolicy | None) -> tuple[int, int]:
    """Idle steps before an episode and the most control steps of it: the checkpoint's, if it says, or published ones.

    Args:
        suite: the simulator's name of it.
        policy: that acts.
    """
    wait_steps, horizon = WAIT_STEPS, SUITE_HORIZONS[suite]
    if isinstance(policy, Policy):
        meant = policy.processor.conventions
        wait_steps = wait_steps if meant.wait_steps is None else meant.wait_steps
        horizon = meant.horizons.get(suite, horizon)
    return wait_steps, horizon


def stored_image_size(policy: Policy) -> int:
    """Pixels of the training data's frames, which the simulator's should have: resizing from another size differs.

    Raises:
        UserError: the checkpoint doesn't say, or they weren't square, as the simulator's are.
    """
    shape = policy.processor.conventions.image_shape
    if shape is None or shape[0] != shape[1]:
        found = "is not known" if shape is None else f"was {shape[0]}x{shape[1]}, which the simulator does not render"
        raise UserError(f"image_size: the size of the training frames {found}; pass --image_size, e.g. 128 or 256")
    return shape[0]


def make_jobs(config: ClosedLoopConfig, policy: ActingPolicy, protocol: Protocol, tasks: list[Task]) -> list[Job]:
    """Episodes in the order of tasks and initial states; of replays as many as there are.

    Raises:
        UserError: there are none.
    """
    numbers = range(config.first_init, config.first_init + config.episodes)
    jobs = (_job(policy, protocol, task, number) for task in tasks for number in numbers)
    found = [job for job in jobs if job is not None]
    if not found:
        rule = f"there are fewer than {config.first_init + 1} demonstrations of every chosen task"
        raise UserError(f"first_init: {rule}, got {config.first_init}")
    return found


def _job(policy: ActingPolicy, protocol: Protocol, task: Task, number: int) -> Job | None:
    """Episode `number` of a task; past the last initial state they start over with another seed."""
    suite, index = protocol.suite, task["index"]
    if isinstance(policy, ReplayPolicy):
        demos = policy.demonstrations.get(index, [])
        if number >= len(demos):
            return None
        state, seed, wait_steps = demos[number].start
        protocol = replace(protocol, wait_steps=wait_steps, seed=seed)
        return Job(Episode(suite, index, number, seed), protocol, task["instruction"], initial_state=state)
    again, init_id = divmod(number, task["initial_states"])
    episode = Episode(suite, index, init_id, protocol.seed + again)
    return Job(episode, protocol, task["instruction"], policy.actor)


def audit_error(check: Check) -> UserError:
    """A failed check as what stops the evaluation."""
    hint = "" if check.name == CONTRACT else f"; --force {check.name} goes on all the same"
    return UserError(f"self-audit: {check.name} failed: {check.detail}{hint}")
