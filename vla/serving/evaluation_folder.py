"""The folder of an evaluation in the simulator: its name says what is not as usual, and it holds one evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.json_files import read_json_object
from vla.errors import UserError
from vla.evaluation.simulator.messages import Job
from vla.evaluation.simulator.protocol import PUBLISHED_IMAGE_SIZE, suite_name
from vla.serving.policy import BASELINE_CHUNK, Policy
from vla.serving.preparation import DEFAULT_EXECUTE_STEPS, episode_lengths
from vla.serving.results import RESULTS

LOCK = ".evaluation.lock"
_ELSEWHERE = "name another folder with --output_dir, or move this one away"


def output_folder(config: ClosedLoopConfig, policy: Policy | None) -> Path:
    """Where results go: below the run that is evaluated, or below runs/<policy> for a baseline."""
    root = config.output_dir
    if root is None and config.policy == "checkpoint" and policy is not None and policy.checkpoint is not None:
        checkpoint = policy.checkpoint
        root = checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint
    name = suite_name(config.suite) + ("-shuffled" if config.instructions == "shuffled" else "")
    name += "-watched" if config.watcher is not None else ""
    for option, value in unusual_options(config, policy).items():
        name += f"-{option}-{value:g}" if isinstance(value, float) else f"-{option}-{value}"
    return (root or Path("runs") / config.policy) / "evaluation" / name


def unusual_options(config: ClosedLoopConfig, policy: Policy | None) -> dict[str, Any]:
    """Options that make another evaluation of it than the usual one, which of the suite's episodes are played aside.

    Args:
        config: what is asked for.
        policy: the checkpoint's, if one is evaluated or its data is replayed.

    Returns:
        By name, for folders and tables; an option that asks for what is usual anyway is not in it.
    """
    acting = policy if config.policy == "checkpoint" else None
    chunk, size = BASELINE_CHUNK, PUBLISHED_IMAGE_SIZE
    if acting is not None:
        chunk, size = acting.chunk_size, (acting.processor.conventions.image_shape or (0,))[0]
    wait_steps, horizon = episode_lengths(suite_name(config.suite), acting)
    usual: dict[str, Any] = {
        "execute_steps": min(chunk, DEFAULT_EXECUTE_STEPS), "ensemble": None, "image_size": size,
        "wait_steps": wait_steps, "horizon": horizon, "seed": 0,
        "watcher_action": "observe",
    }  # fmt: skip
    asked = {name: getattr(config, name) for name in usual}
    found = {name: value for name, value in asked.items() if value is not None and value != usual[name]}
    checkpoint = None if acting is None else acting.checkpoint
    if checkpoint is not None and checkpoint == config.checkpoint and checkpoint.parent.name == "checkpoints":
        found["checkpoint"] = checkpoint.name  # this one was named, not the run
    return found


def refuse_to_replace(
    folder: Path, variant: str, fingerprint: str, jobs: Iterable[Job], faults: Iterable[str] = ()
) -> None:
    """Only an evaluation that holds all of the earlier results again may write over them.

    Args:
        folder: of the evaluation.
        variant: hash of the policy, the protocol and what else decides its episodes.
        fingerprint: of the policy.
        jobs: its episodes.
        faults: keys of those with which they are played again.

    Raises:
        UserError: the folder holds other results, or of more; one line that says what to do.
    """
    try:
        before = read_json_object(folder / RESULTS)
        played = {(row["task"], row["init_id"], row["seed"]) for row in before["episodes"]}
        name, overall, print_of = before["policy"]["name"], before["overall"], before["policy"]["fingerprint"]
        what = f"{name}, {overall['successes']}/{overall['episodes']}"
        shown = {row["fault"] for row in before.get("watching", {}).get("faults", ())}
        known = before["variant"]
    except (UserError, KeyError, TypeError, AttributeError):  # none, or none that anybody can read
        return
    if known != variant:
        other = "another policy or other weights" if print_of != fingerprint else "another protocol or simulator"
        raise UserError(f"output_dir: {folder} holds the results of {other} ({what}); {_ELSEWHERE}")
    left_out = played - {(job.episode.task, job.episode.init_id, job.episode.seed) for job in jobs}
    if left_out:
        more = f"{len(played)} episodes ({what}), of which this evaluation leaves out {len(left_out)}"
        raise UserError(f"output_dir: {folder} holds the results of {more}; ask for those, too, {_ELSEWHERE}")
    missing = sorted(shown - set(faults))
    if missing:
        raise UserError(f"faults: {folder} holds results with {', '.join(missing)}, too; name those, too, {_ELSEWHERE}")
