"""Memory, open files and threads of a long training, of the training process and its workers; all should stay flat.

    python scripts/bench.py long-run --steps 10000 --save

vggt-tiny learns from demonstrations that ship with the repository, with a worker process, an evaluation and a
checkpoint every 500 steps. A row is the state after so many steps; `growth_MB` compares the last with the one after a
tenth of the steps, when every buffer has its size.
"""

import os
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.overwatch.distributed import DistState
from vla.training.pretrain import build_strategy


def run(steps: int = 10_000, workers: int = 1) -> dict[str, Any]:
    """Train and look.

    Args:
        steps: optimizer steps.
        workers: processes that read ahead.
    """
    every = max(1, steps // 20)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as root:
        strategy = build_strategy(_config(Path(root), steps, every, workers), DistState())
        advance = strategy.state.advance

        def advance_and_look() -> None:
            advance()
            if strategy.state.global_step % every == 0:
                rows.append({"name": f"{strategy.state.global_step} steps", **_usage()})

        strategy.state.advance = advance_and_look  # type: ignore[method-assign]
        strategy.run_training()
    early = rows[max(0, len(rows) // 10 - 1)]
    growth = rows[-1]["main_MB"] - early["main_MB"], rows[-1]["workers_MB"] - early["workers_MB"]
    return {"rows": rows, "growth_MB": f"{growth[0]:.1f} (main), {growth[1]:.1f} (workers)", "since": early["name"]}


def _usage() -> dict[str, Any]:
    process = psutil.Process()
    workers = process.children()
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else process.num_fds()
    return {
        "main_MB": process.memory_info().rss / 1e6, "workers_MB": sum(item.memory_info().rss for item in workers) / 1e6,
        "open_files": files, "threads": threading.active_count(), "workers": len(workers),
    }  # fmt: skip


def _config(root: Path, steps: int, every: int, workers: int) -> PretrainConfig:
    tiny = VGGTTinyConfig()
    stage = replace(tiny.align, max_steps=steps, global_batch_size=8, per_device_batch_size=8)
    task = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")
    return PretrainConfig(
        model=replace(tiny, align=stage, processor=replace(tiny.processor, image_size=56)),
        dataset=LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), run_root_dir=root, run_id="long",
        device="cpu", log_every_steps=50, loader=LoaderConfig(num_workers=workers),
        evaluation=EvaluationConfig(every_steps=every, every_epochs=None, max_batches=1),
        checkpoint=CheckpointConfig(every_steps=every, every_epochs=None),
    )  # fmt: skip
