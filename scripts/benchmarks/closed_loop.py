"""Closed-loop evaluation: simulator processes that render only what the policy looks at, beside one that renders all.

    python scripts/bench.py closed-loop
    python scripts/bench.py closed-loop --episodes 8 --horizon 280 --suite libero_spatial

Every variant plays the same episodes of one task, both cameras at 256 pixels, chunks of 8 actions, to the horizon (a
random policy that costs nothing, so that all episodes are equally long; a successful episode takes about 100 steps).
The time is that of the episodes with their resets; processes are started and have made their environment before.
`cpu_seconds_per_episode` is the processor time of the simulator processes, which other work on the machine disturbs
less than `seconds_per_episode`. Needs the libero extra.
"""

import os
import time
from dataclasses import replace
from typing import Any

import psutil

from vla.evaluation.simulator.messages import Episode, Job, Outcome
from vla.evaluation.simulator.pool import SimulatorPool
from vla.evaluation.simulator.protocol import Protocol
from vla.serving.policy import RandomPolicy

CHUNK = 8
SUITE_EPISODES = 100


def run(suite: str = "libero_object", task: int = 0, episodes: int = 4, horizon: int = 140) -> dict[str, Any]:
    """Measure one process that renders every step, one that renders on demand, and two of those.

    Args:
        suite: the simulator's name.
        task: index in the suite.
        episodes: per variant.
        horizon: control steps of an episode.
    """
    lazy = Protocol(suite, horizon, execute_steps=CHUNK)
    # A history of as many frames as a chunk has steps makes the policy look at every frame.
    full = replace(lazy, num_frames=CHUNK)
    rows = [
        measure("1 process, renders every step", full, task, episodes, workers=1),
        measure("1 process, renders on demand", lazy, task, episodes, workers=1),
        measure("2 processes, render on demand", lazy, task, episodes, workers=2),
    ]
    best = rows[-1]["seconds_per_episode"]
    return {
        "rows": rows, "baseline": rows[0]["name"], "measure": "seconds_per_episode", "suite": suite, "task": task,
        "steps per episode": horizon, f"minutes for {SUITE_EPISODES} episodes": best * SUITE_EPISODES / 60,
        "load average before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def measure(name: str, protocol: Protocol, task: int, episodes: int, workers: int) -> dict[str, Any]:
    """Wall and processor time per episode of one variant."""
    policy, outcomes = RandomPolicy(chunk_size=CHUNK), []

    def jobs(count: int, steps: int) -> list[Job]:
        short = replace(protocol, horizon=steps)
        return [Job(Episode(protocol.suite, task, index), short) for index in range(count)]

    def on_done(outcome: Outcome) -> None:
        if outcome.status == "error":
            raise RuntimeError(outcome.message)
        outcomes.append(outcome)

    with SimulatorPool(workers) as pool:
        pool.run(jobs(workers, 1), policy.act, on_done)
        outcomes.clear()
        before, start = processor_seconds(pool), time.perf_counter()
        pool.run(jobs(episodes, protocol.horizon), policy.act, on_done)
        seconds, used = time.perf_counter() - start, processor_seconds(pool) - before
    return {
        "name": name, "seconds_per_episode": seconds / episodes, "cpu_seconds_per_episode": used / episodes,
        "frames rendered per camera": sum(outcome.rendered for outcome in outcomes) / episodes,
    }  # fmt: skip


def processor_seconds(pool: SimulatorPool) -> float:
    """Processor time that the pool's processes have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pool.process_ids]
    return sum(item.user + item.system for item in times)
