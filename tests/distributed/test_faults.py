"""Runs whose processes are killed end with the bits of one that was not disturbed, whoever starts them again.

The short form of `python scripts/bench.py faults`.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from groups import HERE, ROOT, run_group, run_program
from workers import skip_unless_it_runs

from vla.conf import cli
from vla.conf.datasets import LiberoMiniConfig
from vla.conf.strategies import DDPConfig
from vla.training.checkpoint_store import CheckpointStore
from vla.training.faults import differences, metrics, tiny_run

STEPS = 8
needs_data = pytest.mark.skipif(not list(LiberoMiniConfig().root.glob("*_demo.hdf5")), reason="libero-mini is not here")


@pytest.mark.parametrize("case, kills", [("ddp-1", 5), ("fsdp-2", 2)])
def test_killed_and_resumed(tmp_path, case, kills):
    skip_unless_it_runs(case)
    code, text = run_program(HERE / "fault_program.py", tmp_path, case, str(kills))
    assert code == 0, text[-3000:]
    report, log = json.loads(text.splitlines()[-1]), (tmp_path / "log").read_text()
    assert report["problems"] == [], (report, log[-3000:])
    assert 1 <= report["kills"] <= kills and report["most_lost_steps"] <= 4
    if report["of_one_process"]:
        assert "is gone: it ended without a word" in log


def write_config(root: Path, name: str) -> Path:
    """The configuration file of a run of two processes that does not say that it is to be resumed.

    It waits for its saves: which one is the last before a process dies has to be known.
    """
    path, config = root / f"{name}.yaml", tiny_run(root, name, DDPConfig(), 2, STEPS)
    cli.save(replace(config, resume=None, checkpoint=replace(config.checkpoint, asynchronous=False)), path)
    return path


@needs_data
def test_torchrun_starts_again_what_died(tmp_path):
    """`--max-restarts` and nothing else: the run goes on by itself, with the same bits, and no line twice."""
    straight = run_group(ROOT / "scripts" / "pretrain.py", "--config_path", write_config(tmp_path, "straight"))
    assert [code for code, _ in straight] == [0, 0], straight[0].text[-3000:]
    code, text = run_program(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2",
        HERE / "dying_program.py", "1", "5", "train", "--config_path", write_config(tmp_path, "killed"),
    )  # fmt: skip
    assert code == 0, text[-3000:]
    assert text.count(f"resumed from {tmp_path / 'killed/checkpoints/step-000004'}") >= 1
    assert differences(tmp_path / "straight", tmp_path / "killed") == []
    trained = [line["global_step"] for line in metrics(tmp_path / "killed") if "train/loss" in line]
    assert trained == list(range(1, STEPS + 1))


@needs_data
@pytest.mark.parametrize("dead, others", [(1, "train"), (0, "sleep")])
def test_a_dead_process_ends_the_others(tmp_path, dead, others):
    """By themselves and with its name, also where they stand still; what was saved before is whole."""
    config = write_config(tmp_path, "run")
    ended = run_group(HERE / "dying_program.py", str(dead), "3", others, "--config_path", config)
    assert [code for code, _ in ended] == ([-9, 1] if dead == 0 else [1, -9]), ended[1 - dead].text[-3000:]
    assert f"process {dead} is gone: it ended without a word" in ended[1 - dead].text
    assert CheckpointStore(tmp_path / "run").newest(verify=True).name == "step-000002"
