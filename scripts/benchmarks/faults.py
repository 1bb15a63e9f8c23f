"""Training that is killed at random moments, in the middle of saves too, against the same training undisturbed.

Processes of the real program (`vla.training.pretrain.run`) are forked, killed by SIGKILL - all of them, or one, whose
others must then stop by themselves - and started again with `--resume auto` until the run is done. Weights, optimizer,
random number generators, position and metrics.jsonl must be those of the undisturbed run, bit for bit.

    python scripts/bench.py faults --save                 # 200 kills, about an hour on 2 cores
    python scripts/bench.py faults --kills 8 --steps 8    # a look

`differences` and `problems` (a checkpoint lost, a process that hangs) must be 0; `most_lost_steps` is what a kill took
back, where a checkpoint is written every 2 steps; `longest_stop_s` is how long the others of a killed process went on.
"""

import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig, StrategyConfig
from vla.training import pretrain
from vla.training.faults import Report, differences, preload, run_killed, run_straight, start_over

CASES: dict[str, tuple[StrategyConfig, int]] = {
    "ddp, 1 process": (DDPConfig(), 1),
    "fsdp, 1 process": (FSDPFullShardConfig(), 1),
    "ddp, 2 processes": (DDPConfig(), 2),
    "fsdp, 2 processes": (FSDPFullShardConfig(), 2),
}


def run(kills: int = 200, steps: int = 24, seed: int = 0, folder: str = "") -> dict[str, Any]:
    """Kill runs of every case until there were `kills` in all.

    Args:
        kills: in all, an equal share for each case.
        steps: of a run.
        seed: of the moments.
        folder: where the runs go; none: a temporary one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preload()
    chance = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(folder or temporary)
        for name, (strategy, world_size) in CASES.items():
            rows.append(
                {"name": name, **_case(root, name, strategy, world_size, steps, -(-kills // len(CASES)), chance)}
            )
    return {"rows": rows, "kills": sum(row["kills"] for row in rows), "steps_per_run": steps}


def _case(
    root: Path, name: str, strategy: StrategyConfig, world_size: int, steps: int, kills: int, chance: random.Random
) -> dict[str, Any]:
    label = name.replace(", ", "-").replace(" ", "-")
    straight, killed = (
        _config(root, f"{label}-{kind}", strategy, world_size, steps) for kind in ("straight", "killed")
    )
    log = root / f"{label}.log"
    run_straight(lambda: pretrain.run(straight), world_size, log)
    total, runs, different = Report(), 0, 0
    while total.kills < kills:
        start_over(killed.run_dir)
        report = run_killed(
            lambda: pretrain.run(killed), killed.run_dir, world_size, log, chance, min(kills - total.kills, 12)
        )
        runs += 1
        found = differences(straight.run_dir, killed.run_dir) if not report.problems else report.problems
        different += bool(found)
        total.problems += [*report.problems, *found]
        total.kills += report.kills
        total.in_saves += report.in_saves
        total.of_one_process += report.of_one_process
        total.most_lost_steps = max(total.most_lost_steps, report.most_lost_steps)
        total.longest_stop = max(total.longest_stop, report.longest_stop)
        print(f"{name}: {total.kills} kills in {runs} runs; {total.problems or 'no difference'}", flush=True)
    return {
        "kills": total.kills, "in_saves": total.in_saves, "of_one_process": total.of_one_process, "runs": runs,
        "differences": different, "problems": len(total.problems), "most_lost_steps": total.most_lost_steps,
        "longest_stop_s": round(total.longest_stop, 2),
    }  # fmt: skip


def _config(root: Path, name: str, strategy: StrategyConfig, world_size: int, steps: int) -> PretrainConfig:
    """vggt-tiny, all of it, on two demonstrations that ship with the repository, 8 samples a step."""
    tiny = VGGTTinyConfig()
    stage = replace(
        tiny.full_finetune, max_steps=steps, global_batch_size=8, per_device_batch_size=8 // world_size // 2,
        precision="fp32", strategy=strategy,
    )  # fmt: skip
    task = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")
    return PretrainConfig(
        model=replace(tiny, full_finetune=stage, processor=replace(tiny.processor, image_size=56)),
        dataset=LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), stage=Stage.FULL_FINETUNE, resume="auto",
        run_root_dir=root, run_id=name, device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=1), evaluation=EvaluationConfig(every_steps=7, max_batches=1), report=False,
        checkpoint=CheckpointConfig(every_steps=2),
    )  # fmt: skip
