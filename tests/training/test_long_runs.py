"""What must not grow while a run goes on, and what must not depend on the number of workers."""

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from toys import assert_same_run, resumable_config, toy_config, toy_strategy

from vla.conf.pretrain import CheckpointConfig, LoaderConfig
from vla.training.seeding import set_deterministic

MB = 2**20


def usage() -> tuple[int, int, int, int]:
    """Open files, threads, worker processes; memory of all of them in bytes."""
    process = psutil.Process()
    children = process.children()
    # Unique memory: what a worker shares with this process would be counted twice.
    memory = sum(item.memory_full_info().uss for item in (process, *children))
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children), memory


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_piles_up_over_epochs(tmp_path, monkeypatch, workers):
    """50 epochs, each with an evaluation and a checkpoint in the background. Memory is compared after the first ten, in
    which buffers reach their sizes. Lines are not logged: pytest would keep them all.
    """
    monkeypatch.setattr("vla.overwatch.overwatch._lowest_level", lambda: logging.CRITICAL)
    config = replace(
        toy_config(tmp_path / "run", epochs=50), loader=LoaderConfig(num_workers=workers),
        checkpoint=CheckpointConfig(keep_last=1),
    )  # fmt: skip
    strategy = toy_strategy(config)
    save, seen = strategy.saver.save, []

    def save_and_look() -> None:
        save()
        strategy.saver.finish()
        seen.append(usage())

    strategy.saver.save = save_and_look
    before = threading.active_count(), len(psutil.Process().children())
    strategy.run_training()
    assert len(seen) >= 50
    settled = seen[10:]
    assert len({files for files, _, _, _ in settled}) == 1
    assert len({(threads, processes) for _, threads, processes, _ in settled}) == 1
    assert settled[-1][3] - settled[0][3] < 8 * MB
    assert (threading.active_count(), len(psutil.Process().children())) == before


def test_deterministic_runs_do_not_depend_on_the_number_of_workers(tmp_path):
    """With `--deterministic`, 0, 1 and 4 worker processes give the same bits: weights, optimizer, metrics."""
    configs = [replace(resumable_config(tmp_path / f"{n}", workers=n), deterministic=True) for n in (0, 1, 4)]
    set_deterministic(True)
    try:
        for config in configs:
            toy_strategy(config).run_training()
    finally:
        set_deterministic(False)
    for config in configs[1:]:
        assert_same_run(configs[0].run_dir, config.run_dir, 12)
