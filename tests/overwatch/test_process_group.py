"""The process group: alone it is not needed, and two processes agree."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from vla.errors import UserError
from vla.overwatch import distributed
from vla.overwatch.distributed import (
    DistState,
    all_reduce_sum,
    any_process,
    barrier,
    broadcast_object,
    destroy_distributed,
    gather_objects,
    initialize_distributed,
)
from vla.overwatch.launch import Launch, read_launch, rendezvous

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json
import torch
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import *

state = initialize_distributed("cpu")
overwatch = initialize_overwatch("program")
overwatch.info("said by the main process only")
overwatch.error("said by all")
total = all_reduce_sum(torch.tensor([1.0 + state.rank]), state)
barrier(state)
print(json.dumps({
    "state": [state.rank, state.local_rank, state.world_size, state.device, state.backend, state.is_main],
    "sum": total.item(),
    "broadcast": broadcast_object({"rank": state.rank}, state),
    "gathered": gather_objects(state.rank, state),
    "any": [any_process(state.rank == 1, state), any_process(False, state)],
    "threads": torch.get_num_threads(),
}))
destroy_distributed(state)
assert not torch.distributed.is_initialized()
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(variables: dict[str, str]) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_two_processes_agree(launcher: str) -> None:
    port = str(free_port())
    processes = []
    for rank in "01":
        if launcher == "torchrun":
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        else:
            variables = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_STEP_NUM_TASKS": "2"}
            variables |= {"SLURM_STEP_NODELIST": "127.0.0.1", "MASTER_PORT": port}
        processes.append(start(variables))
    for rank, process in enumerate(processes):
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        found = json.loads(output)
        assert found == {
            "state": [rank, rank, 2, "cpu", "gloo", rank == 0],
            "sum": 3.0,
            "broadcast": {"rank": 0},
            "gathered": [0, 1],
            "any": [True, False],
            "threads": 1,
        }
        assert ("said by the main process only" in errors) == (rank == 0)
        assert "said by all" in errors
        assert ("[rank 1]" in errors) == (rank == 1)


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for variable in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(variable, raising=False)
    state = initialize_distributed("cpu")
    assert state == DistState() and state.is_main and not torch.distributed.is_initialized()
    tensor = torch.ones(2)
    assert all_reduce_sum(tensor, state) is tensor and tensor.tolist() == [1, 1]
    barrier(state)
    assert broadcast_object("x", state) == "x"
    assert gather_objects("x", state) == ["x"]
    assert any_process(True, state) and not any_process(False, state)
    destroy_distributed(state)


def test_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for variable in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)
    state = initialize_distributed("cpu", group_of_one=True)
    assert state.backend == "gloo" and torch.distributed.get_world_size() == 1
    destroy_distributed(state)
    assert not torch.distributed.is_initialized()


def test_missing_device_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device: must be auto or cpu"):
        initialize_distributed("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="at most one process per CUDA device"):
        initialize_distributed("auto")


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch()),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, Launch(3, 1, 4, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Launch(1, 1, 2, 2)),
        # A batch script that runs the program once, without srun, is alone however many tasks its job has.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, Launch()),
        (
            {
                "SLURM_PROCID": "5",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_NUM_TASKS": "8",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
            },
            Launch(5, 1, 8, 4),
        ),
    ],
)
def test_read_launch(environment: dict[str, str], launch: Launch) -> None:
    assert read_launch(environment) == launch


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"MASTER_ADDR": "a", "MASTER_PORT": "7"}, ("a", 7)),
        ({"SLURM_STEP_NODELIST": "gpu[07-09,12],cpu1", "SLURM_JOB_ID": "40001"}, ("gpu07", 20001)),
        ({"SLURM_STEP_NODELIST": "node1,node2", "SLURM_JOB_ID": "5"}, ("node1", 20005)),
        ({}, ("127.0.0.1", 29500)),
    ],
)
def test_rendezvous(environment: dict[str, str], place: tuple[str, int]) -> None:
    assert rendezvous(environment) == place


@pytest.mark.parametrize("missing", [0, 1])
def test_a_process_that_does_not_come_is_named(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others don't wait for half an hour, as they would in a collective."""
    monkeypatch.setattr(distributed, "JOIN_LIMIT", timedelta(seconds=1))
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    for name, value in (variables | {"RANK": str(1 - missing), "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"process {missing} ") as caught:
        initialize_distributed("cpu")
    assert "look at its output" in str(caught.value) and "\n" not in str(caught.value)
