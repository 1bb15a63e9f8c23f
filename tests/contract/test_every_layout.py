"""Demonstrations in public layouts train a model, which resumes with the same bits."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("data", "training")]
from robot_files import shipped, write_lerobot_v21, write_lerobot_v30, write_rlds  # noqa: E402
from toys import assert_same_run, stopped_at  # noqa: E402

from vla.conf.datasets import LeRobotConfig, RLDSConfig  # noqa: E402
from vla.conf.models.atlas import VGGTTinyConfig  # noqa: E402
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig  # noqa: E402
from vla.conf.robot_datasets import RobotDataConfig  # noqa: E402
from vla.data.materialize import load_processor  # noqa: E402
from vla.overwatch.distributed import DistState  # noqa: E402
from vla.training import pretrain  # noqa: E402

LAYOUTS = {
    "lerobot-v2.1": lambda path, items: LeRobotConfig(root=write_lerobot_v21(path, items)),
    "lerobot-v3.0": lambda path, items: LeRobotConfig(root=write_lerobot_v30(path, items)),
    "rlds": lambda path, items: RLDSConfig(root=write_rlds(path, items)),
}


def config(run_dir: Path, data: RobotDataConfig, **values: str) -> PretrainConfig:
    """Two steps, and a checkpoint after each."""
    tiny = VGGTTinyConfig()
    align = replace(tiny.align, max_steps=2, global_batch_size=6, per_device_batch_size=3)
    return PretrainConfig(
        model=replace(tiny, processor=replace(tiny.processor, image_size=28), align=align),
        dataset=replace(data, preset="libero"), run_root_dir=run_dir.parent, run_id=run_dir.name, device="cpu",
        log_every_steps=1, trackers=("jsonl",), loader=LoaderConfig(num_workers=0),
        evaluation=EvaluationConfig(max_batches=1), checkpoint=CheckpointConfig(every_steps=1, keep_last=9), **values,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trains_and_resumes_exactly(layout: str, tmp_path: Path) -> None:
    data = LAYOUTS[layout](tmp_path / "data", shipped(1, 3, 6))
    assert pretrain.train(config(tmp_path / "straight", data), DistState()).global_step == 2
    with stopped_at(1):
        pretrain.train(config(tmp_path / "broken", data), DistState())
    assert pretrain.train(config(tmp_path / "broken", data, resume="auto"), DistState()).global_step == 2
    assert_same_run(tmp_path / "straight", tmp_path / "broken", 2)
    folder = next((tmp_path / "straight").rglob("processor.json")).parent
    meaning = load_processor(folder).conventions
    assert meaning.gripper_closed == 1.0 and meaning.camera_orientation == "bottom_up"


def test_other_conventions_refuse_a_checkpoint(tmp_path: Path) -> None:
    data = LAYOUTS["rlds"](tmp_path / "data", shipped(1, 3, 6))
    pretrain.train(config(tmp_path / "run", data), DistState())
    other = replace(config(tmp_path / "run", data, resume="auto"), dataset=replace(data, preset="libero-rotated"))
    with pytest.raises(ValueError, match="camera_orientation"):
        pretrain.train(other, DistState())
