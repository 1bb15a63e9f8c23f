"""One episode of each round as its watcher saw it: played again for its frames, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.simulator.libero_env import CAMERAS
from vla.evaluation.simulator.messages import Job, Outcome
from vla.evaluation.simulator.pool import SimulatorPool
from vla.evaluation.simulator.protocol import Protocol
from vla.overwatch import initialize_overwatch
from vla.serving.watching.pictures import choose_frames, draw_scores
from vla.serving.watching.watched import Round, watched_by_key

overwatch = initialize_overwatch(__name__)

FOLDER = "watching"


def draw_rounds(
    pool: SimulatorPool, folder: Path, rounds: list[Round], watching: dict[str, Any], protocol: Protocol
) -> None:
    """Write `watching/<fault>.png` for each round, and its name into the round's row of `watching`.

    Args:
        pool: plays an episode again.
        folder: of the evaluation.
        rounds: the first without a fault.
        watching: what results.json holds of them.
        protocol: of the episodes.
    """
    threshold = float(watching["watcher"]["threshold"]["value"])
    for item, row in zip(rounds, (watching["normal"], *watching["faults"]), strict=True):
        chosen = _choose(item)
        film = None if chosen is None else _film(pool, *chosen, protocol)
        if chosen is None or film is None:
            continue
        _, outcome = chosen
        watched = watched_by_key([outcome])[outcome.episode.key]
        steps = [number * protocol.execute_steps for number in range(len(film))]
        onset = next((i for i, step in enumerate(steps) if watched.onset is not None and step >= watched.onset), None)
        frames = [(steps[number], film[number]) for number in choose_frames(len(film), onset)]
        name, title = ("nothing", "no fault") if item.fault is None else (item.fault.key, item.fault.key)
        row["picture"] = f"{FOLDER}/{name.replace(':', '-')}.png"
        episode = f"task {outcome.episode.task}, initial state {outcome.episode.init_id}: {outcome.status}"
        draw_scores(folder / row["picture"], f"{title}; {episode}", watched, threshold, frames)


def _choose(item: Round) -> tuple[Job, Outcome] | None:
    """The first episode that shows what the round is about, and succeeded if there is no fault."""
    jobs = {job.episode.key: job for job in item.jobs}
    for outcome in item.outcomes:
        shows = outcome.status == "success" if item.fault is None else outcome.onset is not None
        actions = item.log.actions(outcome.episode) if shows and outcome.watched else None
        if actions is not None:
            return replace(jobs[outcome.episode.key], actions=actions), outcome
    return None


def _film(pool: SimulatorPool, job: Job, before: Outcome, protocol: Protocol) -> np.ndarray | None:
    """uint8 [n, H, W, 3]: the watched camera's frames at the steps that the watcher looked at, upright."""
    found: list[Outcome] = []
    pool.run([replace(job, film_every=protocol.execute_steps)], nobody, found.append)
    film = found[0].film
    if film is None or found[0].states_hash != before.states_hash:
        overwatch.warning(f"{job.episode.key} could not be drawn: it did not play the same way again")
        return None
    return first_camera(film, protocol)


def first_camera(film: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Of a film uint8 [n, H, cameras * W, 3] the policy's first camera: [n, H, W, 3]."""
    order = [name for name in CAMERAS if name in protocol.simulator_cameras]  # in which films show them
    number, width = order.index(protocol.simulator_cameras[0]), film.shape[2] // len(order)
    camera: np.ndarray = film[:, :, number * width : (number + 1) * width]
    return camera


def nobody(inputs: list[Any]) -> Any:
    """The policy of episodes whose actions are known.

    Raises:
        TypeError: always.
    """
    raise TypeError("an episode that is played again asks nobody")
