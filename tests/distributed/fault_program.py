"""Runs of the toy model that are killed and resumed: `python fault_program.py FOLDER CASE KILLS`; prints JSON.

A program of its own, since it forks the processes that it kills.
"""

import json
import random
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import toys

from vla.conf.pretrain import PretrainConfig
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig
from vla.overwatch.distributed import DistState
from vla.training import checkpoint_files, pretrain
from vla.training.checkpoint_store import resolve_resume
from vla.training.faults import Report, differences, preload, run_killed, run_straight
from vla.training.strategies.base_strategy import TrainStrategy

CASES = {"ddp-1": (DDPConfig(), 1), "ddp-2": (DDPConfig(), 2), "fsdp-2": (FSDPFullShardConfig(), 2)}


def build(config: PretrainConfig, dist: DistState) -> TrainStrategy:
    resume_from = pretrain._agreed(lambda: resolve_resume(config.run_dir, "auto"), dist)
    strategy = toys.toy_strategy(config, dist, resume_from=resume_from)
    step = strategy.train_step
    strategy.train_step = lambda *arguments: (time.sleep(0.02), step(*arguments))
    return strategy


def main(folder: Path, case: str, kills: int) -> Report:
    strategy, world_size = CASES[case]
    flush = checkpoint_files.flush
    pretrain.build_strategy, pretrain.summarise = build, lambda *arguments: None
    checkpoint_files.flush = lambda path: (time.sleep(0.005), flush(path))  # long enough to be hit
    preload()
    runs = {}
    for kind in ("straight", "killed"):
        config = toys.resumable_config(folder / kind, strategy=strategy)
        runs[kind] = replace(
            config, checkpoint=replace(config.checkpoint, every_steps=2), log_every_steps=1, report=False
        )
    log = folder / "log"
    run_straight(lambda: pretrain.run(runs["straight"]), world_size, log)
    killed = runs["killed"]
    report = run_killed(lambda: pretrain.run(killed), killed.run_dir, world_size, log, random.Random(case), kills)
    report.problems += differences(runs["straight"].run_dir, killed.run_dir)
    return report


if __name__ == "__main__":
    print(json.dumps(asdict(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
