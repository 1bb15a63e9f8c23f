"""Memory, open files and threads of a long training, of the training process and its workers; all should stay flat.

    python scripts/bench.py long-run --steps 10000 --save

vggt-tiny learns from demonstrations that ship with the repository, with a worker process, an evaluation and a
checkpoint every 500 steps. A row is the state after so many steps. `grown` says what is more in the second half than in
the first, leaving out a tenth of the steps, after which every buffer has its size: open files, threads, processes,
memory (by more than 8 MB; what it has written and no other process shares). Nothing may be.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _usage import MEGABYTE, Usage, growth, usage

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
    seen: list[Usage] = []
    with TemporaryDirectory() as root:
        strategy = build_strategy(_config(Path(root), steps, every, workers), DistState())
        advance = strategy.state.advance

        def advance_and_look() -> None:
            advance()
            if strategy.state.global_step % every == 0:
                seen.append(usage())
                print(f"{strategy.state.global_step} steps: {seen[-1]}", flush=True)

        strategy.state.advance = advance_and_look  # type: ignore[method-assign]
        strategy.run_training()
    settled = seen[max(0, len(seen) // 10 - 1) :]
    rows = [{"name": f"{(number + 1) * every} steps", **_in_megabytes(item)} for number, item in enumerate(seen)]
    grown = growth(settled)
    return {"rows": rows, "grown": "; ".join(grown) or "nothing", "flat": not grown}


def _in_megabytes(item: Usage) -> dict[str, Any]:
    memory = {"main_MB": item.main / MEGABYTE, "workers_MB": item.children / MEGABYTE}
    return {**memory, "open_files": item.files, "threads": item.threads, "workers": item.processes}


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
