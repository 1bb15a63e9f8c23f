"""The process group: set up once by a script, handed down as a `DistState`. torch is imported inside the functions.

Every collective does nothing in a run of one process, so that callers need no branch for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from vla.errors import UserError
from vla.overwatch.launch import Launch, read_launch, rendezvous, restart_count

if TYPE_CHECKING:
    import torch

Object = TypeVar("Object")

JOIN_LIMIT = timedelta(minutes=10)  # for all processes to come, from the first one on


class DeviceError(UserError):
    """The device that was asked for is not there."""


class MissingProcessError(UserError):
    """Not all processes of the run have come."""


@dataclass(frozen=True)
class DistState:
    """Which process this is, and what it computes on."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    device: str = "cpu"  # cpu | cuda:<local rank>
    backend: str | None = None  # None: there is no process group
    local_world_size: int = 1  # processes on this machine

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and log lines."""
        return self.rank == 0


def initialize_distributed(
    device: str = "auto", *, group_of_one: bool = False, timeout: timedelta = timedelta(minutes=30)
) -> DistState:
    """Choose the device and, when a launcher started several processes, join their process group.

    Args:
        device: auto (CUDA when there is any) | cpu | cuda.
        group_of_one: make a process group for a single process too (FSDP needs one).
        timeout: how long a collective waits for the other processes.

    Raises:
        DeviceError: there is no such device.
        MissingProcessError: another process did not come within `JOIN_LIMIT`.
    """
    import torch
    import torch.distributed as dist

    launch = read_launch()
    chosen = _choose_device(device, launch)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _num_cores() // launch.local_world_size))
    backend = None
    if launch.world_size > 1 or group_of_one:
        # The CPU half carries objects and metrics without stopping CUDA's stream.
        backend = "gloo" if chosen == "cpu" else "cpu:gloo,cuda:nccl"
        if not dist.is_initialized():
            _join(backend, chosen, launch, timeout)
    return DistState(launch.rank, launch.local_rank, launch.world_size, chosen, backend, launch.local_world_size)


def destroy_distributed(state: DistState) -> None:
    """Leave the process group, if there is one."""
    import torch.distributed as dist

    if state.backend is not None and dist.is_initialized():
        dist.destroy_process_group()


def all_reduce_sum(tensor: torch.Tensor, state: DistState) -> torch.Tensor:
    """`tensor`, which becomes the sum over all processes in place."""
    if state.world_size > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def barrier(state: DistState) -> None:
    """Wait until every process is here."""
    if state.world_size > 1:
        import torch.distributed as dist

        dist.barrier(device_ids=None if state.device == "cpu" else [state.local_rank])


def broadcast_object(value: Object, state: DistState, source: int = 0) -> Object:
    """The `value` of process `source`, in every process. For small trusted Python values: it is pickled."""
    if state.world_size == 1:
        return value
    import torch.distributed as dist

    box: list[Any] = [value if state.rank == source else None]
    dist.broadcast_object_list(box, src=source)
    value = box[0]
    return value


def gather_objects(value: Object, state: DistState) -> list[Object]:
    """The `value` of every process, by rank, in every process. For small trusted Python values: it is pickled."""
    if state.world_size == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * state.world_size
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool, state: DistState) -> bool:
    """Whether `flag` holds in any process: a signal to one of them stops all at the same step."""
    if state.world_size == 1:
        return flag
    import torch

    return bool(all_reduce_sum(torch.tensor(int(flag)), state).item())


def _join(backend: str, device: str, launch: Launch, timeout: timedelta) -> None:
    import torch
    import torch.distributed as dist

    device_id = None if device == "cpu" else torch.device(device)
    if launch.world_size == 1:
        dist.init_process_group(
            backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout, device_id=device_id
        )
        return
    keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = _agent_store(launch, timeout) if keeps_store else _meet(launch)
    store.set_timeout(timeout)
    # torchrun keeps one store for all of its attempts: addresses that the dead left there would be waited for.
    own = dist.PrefixStore(f"attempt-{restart_count()}", store)
    dist.init_process_group(
        backend, store=own, rank=launch.rank, world_size=launch.world_size, timeout=timeout, device_id=device_id
    )  # fmt: skip


def _agent_store(launch: Launch, timeout: timedelta) -> Any:
    """torchrun's own; it ends all processes when one can't start."""
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", launch.rank, launch.world_size, timeout=timeout))
    return store


def _meet(launch: Launch) -> Any:
    """The store of the process group, once all processes are there.

    Raises:
        MissingProcessError: some did not come, which are named.
    """
    import torch.distributed as dist

    address, port = rendezvous()
    try:
        store = dist.TCPStore(
            address, port, is_master=launch.rank == 0, timeout=JOIN_LIMIT, wait_for_workers=False, multi_tenant=True
        )
        names = {rank: f"attempt-{restart_count()}-here-{rank}" for rank in range(launch.world_size)}
        store.set(names[launch.rank], "1")
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        problem = f"process 0 can't be met at {address}:{port}, look at its output ({reason})"
        raise MissingProcessError(problem) from None
    try:
        store.wait([*names.values()], JOIN_LIMIT)
    except RuntimeError:
        try:
            missing = [str(rank) for rank, name in names.items() if not store.check([name])]
        except RuntimeError:  # the store has gone with the process that keeps it
            missing = ["0"]
        raise MissingProcessError(
            f"process {', '.join(missing)} of {launch.world_size} did not come within {JOIN_LIMIT.total_seconds():.0f} "
            "seconds: it has failed, or was never started; look at its output"
        ) from None
    return store


def _choose_device(device: str, launch: Launch) -> str:
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError("device: must be auto or cpu where torch finds no CUDA device, got 'cuda'")
    if device == "cpu" or not available:
        return "cpu"
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise DeviceError(
            f"device: must be cpu, or at most one process per CUDA device ({count} here), "
            f"got {launch.local_world_size} processes"
        )
    torch.cuda.set_device(launch.local_rank)
    return f"cuda:{launch.local_rank}"


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
