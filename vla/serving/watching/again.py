"""An evaluation's successes, played again action by action to look at their frames."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vla.conf.watching import WatchFramesConfig
from vla.errors import UserError
from vla.evaluation.simulator.episode_log import EpisodeLog
from vla.evaluation.simulator.messages import Episode, Job, Outcome
from vla.evaluation.simulator.pool import SimulatorError, SimulatorPool
from vla.evaluation.simulator.protocol import Protocol
from vla.overwatch import initialize_overwatch
from vla.serving.watching.film import first_camera, nobody

overwatch = initialize_overwatch(__name__)


def play_again(config: WatchFramesConfig) -> tuple[str, Iterator[tuple[str, Outcome]]]:
    """The camera that the evaluation's policy had first, and every success with its task's name and a film of it.

    Films hold that camera alone, upright, every `config.every`-th step.

    Raises:
        UserError: the folder holds no evaluation of a policy, or nothing in it succeeded.
    """
    folder = config.evaluation
    assert folder is not None
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        protocol = _protocol(results["protocol"])
        names = {row["index"]: row["name"] for row in results["tasks"]}
        log = EpisodeLog(folder, results["variant"])
        jobs = list(_jobs(results, protocol, names, log, config))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"evaluation: {folder} holds no results.json of an evaluation in the simulator") from error
    if results["policy"]["name"] == "replay":
        raise UserError("evaluation: is of replayed demonstrations; name their folder with --demonstrations")
    if not jobs:
        raise UserError(f"evaluation: none of the chosen episodes in {folder} succeeded")
    return protocol.cameras[0], _play(jobs, protocol, names, log, config)


def _protocol(values: dict[str, Any]) -> Protocol:
    plain: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
    return Protocol(**plain)


def _jobs(
    results: dict[str, Any], protocol: Protocol, names: dict[int, str], log: EpisodeLog, config: WatchFramesConfig
) -> Iterator[Job]:
    count: Counter[int] = Counter()
    for row in results["episodes"]:
        task, chosen = row["task"], not config.tasks or names[row["task"]] in config.tasks
        chosen = chosen and row["init_id"] >= config.first_init
        episode = Episode(protocol.suite, task, row["init_id"], row["seed"])
        actions = log.actions(episode) if chosen and row["status"] == "success" else None
        limit = config.max_episodes_per_task
        if actions is not None and (limit is None or count[task] < limit):
            count[task] += 1
            yield Job(episode, protocol, actions=actions, film_every=config.every)


def _play(
    jobs: list[Job], protocol: Protocol, names: dict[int, str], log: EpisodeLog, config: WatchFramesConfig
) -> Iterator[tuple[str, Outcome]]:
    """Task by task, so that films don't pile up."""
    with SimulatorPool(config.workers, python=config.simulator_python) as pool:
        for task in dict.fromkeys(job.episode.task for job in jobs):
            outcomes: list[Outcome] = []
            try:
                pool.run([job for job in jobs if job.episode.task == task], nobody, outcomes.append)
            except SimulatorError as error:
                raise UserError(str(error)) from error
            outcomes.sort(key=lambda outcome: (outcome.episode.init_id, outcome.episode.seed))  # whoever was first
            before = log.outcomes(outcome.episode for outcome in outcomes)
            for outcome, earlier in zip(outcomes, before, strict=True):
                if outcome.film is None or outcome.states_hash != earlier.states_hash:
                    overwatch.warning(f"{outcome.episode.key} is left out: it did not play the same way again")
                    continue
                yield names[task], replace(outcome, film=first_camera(outcome.film, protocol))
