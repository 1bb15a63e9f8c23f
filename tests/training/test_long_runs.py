"""What must not grow while a run goes on, and what must not depend on the number of workers."""

import logging
import mmap
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from toys import assert_same_run, resumable_config, toy_config, toy_strategy

from vla.conf.pretrain import CheckpointConfig, LoaderConfig
from vla.training.seeding import set_deterministic

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

from _usage import ALLOWED, growth, usage


def threads_and_workers() -> tuple[int, int]:
    return threading.active_count(), len(psutil.Process().children())


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
    before = threads_and_workers()
    strategy.run_training()
    assert len(seen) >= 50 and growth(seen[10:]) == []
    patience = time.monotonic() + 60
    while threads_and_workers() != before and time.monotonic() < patience:
        time.sleep(0.05)  # the thread of a worker's queue ends a moment after the worker
    assert threads_and_workers() == before


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="a child that has ended can't be left in the system's table")
def test_a_child_that_has_ended_has_no_memory():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the system's table
        assert usage().children >= 0


def test_what_piles_up_is_found(tmp_path):
    """The test above can fail: a file, a thread and memory that are not given back are told."""
    before = [usage() for _ in range(4)]
    assert growth(before) == []
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    with (tmp_path / "file").open("w"):
        held = mmap.mmap(-1, 8 * ALLOWED)  # not from the allocator, which may have as much left
        held.write(b"x" * len(held))
        thread.start()
        found = growth([*before, *(usage() for _ in range(4))])
    done.set()
    thread.join()
    assert growth([*before, before[0]._replace(files=before[0].files + 9), *before]) == []  # for a moment
    assert [text.partition(":")[0] for text in found] == ["files", "threads", "memory (main)"], found
    held.close()


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
