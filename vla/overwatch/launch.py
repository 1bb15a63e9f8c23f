"""Which process this is, as its launcher says in the environment: torchrun (RANK, ...), or srun (SLURM_...)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """Read the launcher's variables; without a launcher this process is alone."""
    env = os.environ if environment is None else environment
    if "RANK" in env and "WORLD_SIZE" in env:
        world_size = int(env["WORLD_SIZE"])
        local_world_size = int(env.get("LOCAL_WORLD_SIZE", world_size))
        return Launch(int(env["RANK"]), int(env.get("LOCAL_RANK", env["RANK"])), world_size, local_world_size)
    # SLURM_NTASKS also stands in a batch script that no srun has multiplied; the variables of a step do not.
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        local = re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE", ""))  # "4(x2),3"
        world_size = int(env["SLURM_STEP_NUM_TASKS"])
        return Launch(
            int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"]), world_size, int(local[0]) if local else world_size
        )
    return Launch()


def restart_count(environment: Mapping[str, str] | None = None) -> int:
    """How often the launcher has started this run again: `torchrun --max-restarts`, or a requeued Slurm job."""
    env = os.environ if environment is None else environment
    counts = [env.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")]
    return max(int(count) if count.isdigit() else 0 for count in counts)


def limit_busy_waiting() -> None:
    """Let OpenMP threads that wait for each other sleep soon. Call it before torch is imported.

    GNU OpenMP, which torch's CPU builds use, spins for minutes by default: with any other program on the machine's
    cores, threads then burn the time that the one they wait for would need, and training slows down tenfold.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")


def rendezvous(environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Address and port at which the processes meet: MASTER_ADDR and MASTER_PORT, or made from a Slurm job's."""
    env = os.environ if environment is None else environment
    address = env.get("MASTER_ADDR") or _first_host(env.get("SLURM_STEP_NODELIST", "")) or "127.0.0.1"
    port = env.get("MASTER_PORT") or str(20000 + int(env.get("SLURM_JOB_ID", "9500")) % 20000)
    return address, int(port)


def _first_host(nodes: str) -> str:
    """The first name of a Slurm list: "gpu[07-09,12],cpu1" -> "gpu07"."""
    match = re.match(r"([^\[,]+)(?:\[(\w+))?", nodes)
    return match[1] + (match[2] or "") if match else ""
