"""Other packages add a model, a dataset and a strategy by entry points alone."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla.conf import cli, plugins
from vla.conf.datasets import DatasetConfig
from vla.conf.models import ModelConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.registry import available, resolve_target
from vla.conf.strategies import StrategyConfig

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = '''
from dataclasses import dataclass, field
from typing import ClassVar

from vla.conf.datasets import LiberoConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.components import LLMConfig
from vla.conf.stage import StageConfig
from vla.conf.strategies import DDPConfig


@dataclass(frozen=True)
class HouseModelConfig(VGGTTinyConfig):
    """A model of the house."""

    model_id: ClassVar[str] = "house-model"
    target: ClassVar[str] = "house.code:HouseModel"

    rooms: int = 3  # how many rooms it has
    align: StageConfig = field(default_factory=lambda: StageConfig(trainable=("fusion",), epochs=9))


@dataclass(frozen=True)
class HouseDataConfig(LiberoConfig):
    """Data of the house."""

    dataset_id: ClassVar[str] = "house-data"
    target: ClassVar[str] = "house.code:HouseData"


@dataclass(frozen=True)
class HouseStrategyConfig(DDPConfig):
    """A strategy of the house."""

    strategy_id: ClassVar[str] = "house-strategy"
    target: ClassVar[str] = "house.code:HouseStrategy"
    description: ClassVar[str] = "every process at home"

    neighbours: int = 1
'''
CODE = """
class HouseModel: ...
class HouseData: ...
class HouseStrategy: ...
"""
BROKEN = """
[vla.models]
house-broken = house_missing.conf:Config
house-wrong = house.code:HouseModel
vggt-tiny = house.fake:FakeTiny
house-nameless = house.fake:Nameless
"""
FAKE = """
from dataclasses import dataclass
from typing import ClassVar

from vla.conf.models import ModelConfig


@dataclass(frozen=True)
class FakeTiny(ModelConfig):
    model_id: ClassVar[str] = "vggt-tiny"
    target: ClassVar[str] = "os:system"


@dataclass(frozen=True)
class Nameless(ModelConfig):
    target: ClassVar[str] = "os:system"
"""
ENTRY_POINTS = """
[vla.models]
house-model = house.configs:HouseModelConfig

[vla.datasets]
house-data = house.configs:HouseDataConfig

[vla.strategies]
house-strategy = house.configs:HouseStrategyConfig
"""


def install(folder: Path, distribution: str, entry_points: str, files: dict[str, str]) -> None:
    """What pip leaves behind: the package and its metadata."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(textwrap.dedent(entry_points))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    files = {"house/__init__.py": "", "house/configs.py": CONFIGS, "house/code.py": CODE, "house/fake.py": FAKE}
    install(tmp_path, "house-robots", ENTRY_POINTS, files)
    return tmp_path


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(site))
    before = {base: dict(base.get_known_choices()) for base in (ModelConfig, DatasetConfig, StrategyConfig)}
    plugins.refresh()
    yield site
    for base, choices in before.items():
        base.get_known_choices().clear()
        base.get_known_choices().update(choices)
    for name in [name for name in sys.modules if name.partition(".")[0] == "house"]:
        del sys.modules[name]
    monkeypatch.undo()
    plugins.refresh()


LINE = (
    "--model.type house-model --model.rooms 4 --model.align.learning_rate 1e-3 --dataset.type house-data "
    "--dataset.root data --model.align.strategy.type house-strategy --model.align.strategy.neighbours 2"
).split()


def test_all_three_kinds(installed: Path) -> None:
    config = cli.parse(PretrainConfig, LINE)
    assert type(config.model).__name__ == "HouseModelConfig"
    assert (config.model.rooms, config.model.align.epochs, config.model.align.learning_rate) == (4, 9, 1e-3)  # type: ignore[attr-defined]
    assert config.resolved_run_id == "house-model+house-data+align+x7"
    assert config.model.align.strategy.neighbours == 2  # type: ignore[attr-defined]
    found = [resolve_target(part) for part in (config.model, config.dataset, config.model.align.strategy)]
    assert [item.__name__ for item in found] == ["HouseModel", "HouseData", "HouseStrategy"]
    cli.save(config, installed / "config.yaml")
    assert cli.load(PretrainConfig, installed / "config.yaml") == config


def test_loaded_only_when_asked_for(installed: Path) -> None:
    cli.parse(PretrainConfig, ["--model.type", "vggt-llama-7b"])
    assert "house.configs" not in sys.modules and "house-model" not in available(ModelConfig)
    with pytest.raises(cli.UserError, match="must be one of .*house-model.*did you mean 'house-model'"):
        cli.parse(PretrainConfig, ["--model.type", "house-modle"])


def test_a_saved_run_loads_in_a_new_process(site: Path) -> None:
    program = (
        "import sys\nfrom vla.conf import cli\nfrom vla.conf.pretrain import PretrainConfig\n"
        "def main(config):\n    cli.save(config, sys.argv[0] + '.yaml')\n    print(config.resolved_run_id)\n"
        "    assert 'torch' not in sys.modules\n"
        "sys.exit(cli.run(PretrainConfig, main))\n"
    )
    script = site / "program.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    for arguments in (LINE, ["--config_path", f"{script}.yaml"]):
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "house-model+house-data+align+x7\n"), done.stderr


def shows(text: str, line: str) -> bool:
    """Whether a line of `text` has the columns of `line`, however far apart they stand."""
    wanted = re.split(r" {2,}", line.strip())
    return any(re.split(r" {2,}", found.strip()) == wanted for found in text.splitlines())


def test_help_shows_them(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(PretrainConfig, [*LINE, "--help"])
    text = capsys.readouterr().out
    assert shows(text, "*  house-model  A model of the house")
    assert re.search(r"house-strategy +every process at home$", text, re.MULTILINE)
    assert shows(text, "   --model.rooms int              4      how many rooms it has")
    assert "note:" not in text


def test_broken_ones_are_named_only_when_asked_for(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(installed, "broken-house", BROKEN, {})
    plugins.refresh()
    assert type(cli.parse(PretrainConfig, []).model).model_id == "vggt-tiny"
    reasons = {
        "house-broken": "plug-in 'house-broken' of package 'broken-house' does not load "
        "(ModuleNotFoundError: No module named 'house_missing'), got 'house-broken'",
        "house-wrong": "plug-in 'house-wrong' of package 'broken-house' must be a dataclass that inherits from "
        "ModelConfig, got 'house-wrong'",
        "house-nameless": "plug-in 'house-nameless' of package 'broken-house' must set model_id and target "
        "('module:Class'), got 'house-nameless'",
    }
    for name, reason in reasons.items():
        with pytest.raises(cli.UserError) as error:
            cli.parse(PretrainConfig, ["--model.type", name])
        assert str(error.value) == f"model.type: {reason}"
    # An unknown name is told about what could not be looked into.
    with pytest.raises(
        cli.UserError, match="got 'house-x'.*; plug-in 'house-broken' of package 'broken-house' does not"
    ):
        cli.parse(PretrainConfig, ["--model.type", "house-x"])
    with pytest.raises(SystemExit):
        cli.parse(PretrainConfig, ["--help"])
    text = capsys.readouterr().out
    assert shows(text, "   house-broken      does not load, see the end")
    notes = [line for line in text.splitlines() if line.startswith("note: ")]
    assert len(notes) == 4
    assert (
        "note: plug-in 'vggt-tiny' of package 'broken-house' can't be registered: the model_id 'vggt-tiny' is taken"
        in (notes)
    )


def test_the_name_of_an_entry_point_need_not_be_the_id(installed: Path) -> None:
    install(installed, "odd-house", "[vla.datasets]\nodd = house.configs:HouseDataConfig\n", {})
    (installed / "house_robots-1.0.dist-info" / "entry_points.txt").write_text("")
    plugins.refresh()
    config = cli.parse(PretrainConfig, ["--dataset.type", "house-data"])
    assert type(config.dataset).dataset_id == "house-data"
