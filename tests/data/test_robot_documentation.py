"""docs/robot_data.md: its example is a configuration, and every preset and field that it names is one."""

import re
from dataclasses import fields
from pathlib import Path

from vla.conf import cli
from vla.conf.datasets import LeRobotConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.robot_datasets import PRESETS, ConventionsConfig
from vla.data.datasets.presets import with_preset
from vla.data.datasets.robot_files import Fields
from vla.data.datasets.robot_meaning import choose_keys, conventions_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "robot_data.md").read_text(encoding="utf-8")


def test_the_example_is_whole(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "robot.yaml").write_text(example)
    config = cli.load(PretrainConfig, tmp_path / "robot.yaml")
    data = config.dataset
    assert isinstance(data, LeRobotConfig) and with_preset(data) == (data, None)
    cameras = {f"observation.images.{name}": (240, 320) for name in ("front", "wrist")}
    names = {"action": tuple("xyzabcg"), "observation.state": tuple("xyzabcg")}
    there = Fields(dict(cameras), names, ("task_index",), 10.0)
    seen = config.model.processor
    meaning = conventions_of(data, there, choose_keys(data, there, seen.cameras, seen.proprio), None)
    assert len(meaning.action_names) == seen.action_dim and meaning.control_hz == 10.0


def test_presets_and_conventions_are_listed() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)[-len(PRESETS) :] == list(PRESETS)
    for item in fields(ConventionsConfig):
        assert item.name in PAGE, item.name
