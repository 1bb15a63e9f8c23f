"""Runs of training that are killed at random moments, and resumed until they are done."""

import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import StrategyConfig
from vla.training.checkpoint_files import TEMPORARY, read_tensors
from vla.training.checkpoint_store import CheckpointStore
from vla.training.metrics import MEASURED

LONGEST = 600.0  # seconds after which processes that neither train nor end are counted as hanging
Train = Callable[[], int]  # what a process does: trains, resuming by itself, and returns its exit code


def tiny_run(root: Path, name: str, strategy: StrategyConfig, world_size: int, steps: int) -> PretrainConfig:
    """vggt-tiny, all of it, on two demonstrations that ship with the repository: 8 samples a step in micro-batches of
    half a process's share, a checkpoint every 2 steps, an evaluation every 7. It goes on with what is in its folder.

    Args:
        root: of run folders.
        name: of the run's.
        strategy: of the training.
        world_size: processes that it is for.
        steps: of the whole run.
    """
    tiny, data = VGGTTinyConfig(), LiberoMiniConfig()
    assert data.root is not None
    stage = replace(
        tiny.full_finetune, max_steps=steps, global_batch_size=8, per_device_batch_size=8 // world_size // 2,
        precision="fp32", strategy=strategy,
    )  # fmt: skip
    task = sorted(data.root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")
    return PretrainConfig(
        model=replace(tiny, full_finetune=stage, processor=replace(tiny.processor, image_size=56)),
        dataset=LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), stage=Stage.FULL_FINETUNE, resume="auto",
        run_root_dir=root, run_id=name, device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=1), evaluation=EvaluationConfig(every_steps=7, max_batches=1), report=False,
        checkpoint=CheckpointConfig(every_steps=2),
    )  # fmt: skip


@dataclass
class Report:
    """What was done to a run, and what it lost."""

    kills: int = 0
    in_saves: int = 0  # of the kills, those in the middle of writing a checkpoint
    of_one_process: int = 0  # of the kills, those of one process, whose others had to stop by themselves
    most_lost_steps: int = 0  # that a kill took back
    longest_stop: float = 0.0  # seconds until the others had stopped
    problems: list[str] = field(default_factory=list)


class Processes:
    """The processes of one attempt, forked from this one, which must not have computed with torch.

    Args:
        train: what each of them does.
        world_size: how many.
        log: file for what they print.
    """

    def __init__(self, train: Train, world_size: int, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.pids = [_fork(train, rank, world_size, port, log) for rank in range(world_size)]
        self.codes: dict[int, int] = {}

    def running(self) -> list[int]:
        """Processes that have not ended."""
        for pid in self.pids:
            if pid not in self.codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return [pid for pid in self.pids if pid not in self.codes]

    def kill(self, pids: list[int]) -> None:
        """SIGKILL: nothing of theirs runs any more."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait until all have ended; whether they have within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True


def _fork(train: Train, rank: int, world_size: int, port: int, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if world_size > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size),
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
            )  # fmt: skip
        code = train()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def preload() -> None:
    """Import what training will need, so that forked processes needn't, each for itself."""
    import torch._dynamo  # what optimizers import when they are made
    import torch.distributed.fsdp  # noqa: F401

    import vla.training.strategies.ddp
    import vla.training.strategies.fsdp  # noqa: F401


def run_straight(train: Train, world_size: int, log: Path) -> None:
    """Train without disturbance.

    Raises:
        RuntimeError: it failed.
    """
    processes = Processes(train, world_size, log)
    if not processes.wait(LONGEST) or any(processes.codes.values()):
        processes.kill(processes.running())
        raise RuntimeError(f"the undisturbed run failed: {log.read_text()[-3000:]}")


def run_killed(train: Train, run_dir: Path, world_size: int, log: Path, chance: random.Random, kills: int) -> Report:
    """Kill a run `kills` times, or until it is done, and let it finish.

    Args:
        train: goes on from the newest checkpoint.
        run_dir: the run's folder.
        world_size: its processes.
        log: file for what they print.
        chance: when and what is killed.
        kills: at most so many.
    """
    report = Report()
    while True:
        saved = _saved_step(run_dir)
        processes = Processes(train, world_size, log)
        if report.kills < kills:
            _strike(processes, run_dir, chance, report)
        if not processes.wait(LONGEST):
            report.problems.append(f"{len(processes.running())} processes hung")
            processes.kill(processes.running())
            processes.wait(LONGEST)
        if _saved_step(run_dir) < saved:
            report.problems.append(f"a checkpoint was lost: step {saved}, then {_saved_step(run_dir)}")
        codes = list(processes.codes.values())
        if not any(codes):
            return report
        if all(code not in (0, 1, -signal.SIGKILL) for code in codes):
            report.problems.append(f"ended with {codes}")
        if len(report.problems) > 5:
            return report


def _strike(processes: Processes, run_dir: Path, chance: random.Random, report: Report) -> None:
    """Wait for a random moment, and kill all processes or one of them, unless they are done before."""
    way = chance.choice(["any time", "training", "saving", "saving"])
    before = _last_step(run_dir)
    if way == "any time":
        _sleep(chance.uniform(0, 1.0), processes)
    else:
        while processes.running() == processes.pids and _last_step(run_dir) <= before:
            time.sleep(0.002)
        _sleep(chance.uniform(0, 0.5), processes)
    if way == "saving":
        while processes.running() == processes.pids and not _is_saving(run_dir):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.01))
    running = processes.running()
    if running != processes.pids:  # done, or broken: the caller sees to it
        return
    alone = way != "any time" and len(running) > 1 and chance.random() < 0.5
    report.in_saves += _is_saving(run_dir)
    reached = _last_step(run_dir)
    processes.kill([chance.choice(running)] if alone else running)
    report.kills += 1
    struck = time.monotonic()
    if alone:
        report.of_one_process += 1
        if processes.wait(LONGEST):
            report.longest_stop = max(report.longest_stop, time.monotonic() - struck)
    else:
        processes.wait(LONGEST)
    report.most_lost_steps = max(report.most_lost_steps, reached - _saved_step(run_dir))


def _sleep(seconds: float, processes: Processes) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and processes.running() == processes.pids:
        time.sleep(0.002)


def _is_saving(run_dir: Path) -> bool:
    return any((run_dir / "checkpoints").glob(f"step-*{TEMPORARY}"))


def _saved_step(run_dir: Path) -> int:
    newest = CheckpointStore(run_dir).newest(verify=True)
    return int(newest.name.removeprefix("step-")) if newest is not None else 0


def _last_step(run_dir: Path) -> int:
    """The last step in metrics.jsonl, of whatever attempt; half a line may stand at its end."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_bytes().splitlines()[-2:] if path.is_file() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["global_step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def metrics(run_dir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def differences(left: Path, right: Path) -> list[str]:
    """What differs between two finished runs: weights, optimizer, generators, position, metrics, to the bit."""
    found = []
    if metrics(left) != metrics(right):
        found.append(f"metrics.jsonl: {len(metrics(left))} lines, {len(metrics(right))}")
    newest = [CheckpointStore(run).newest(verify=True) for run in (left, right)]
    folders = [folder for folder in newest if folder is not None]
    if len({folder.name for folder in folders}) != 1 or len(folders) != 2:
        return [*found, f"last checkpoints: {newest}"]
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors")) for folder in folders]
    if names[0] != names[1]:
        return [*found, f"files: {names}"]
    for name in names[0]:
        ours, theirs = (read_tensors(folder / name) for folder in folders)
        for key in ours.keys() | theirs.keys():
            if key not in ours or key not in theirs or ours[key].numpy().tobytes() != theirs[key].numpy().tobytes():
                found.append(f"{name}: {key}")
    states = [json.loads((folder / "trainer/state.json").read_text()) for folder in folders]
    for state in states:
        state["trainer"].pop("elapsed")
    return found if states[0] == states[1] else [*found, "trainer/state.json"]


def start_over(run_dir: Path) -> None:
    """Remove a run."""
    shutil.rmtree(run_dir, ignore_errors=True)
