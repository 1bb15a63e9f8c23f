"""scripts/convert.py takes over UniAD's configurations and checkpoints."""

import importlib.util
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.models.uniad import UniADEfficientNetB4Config
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests/golden/uniad/config.yaml"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("convert_script", ROOT / "scripts/convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_configuration_is_taken_over(main, tmp_path, capsys):
    assert main(["uniad-config", "--input", str(PUBLISHED), "--output", str(tmp_path / "mvtec.yaml")]) == 0
    assert "note: " in capsys.readouterr().out
    assert isinstance(cli.load(PretrainConfig, tmp_path / "mvtec.yaml").model, UniADEfficientNetB4Config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("uniad-config", "input: must name a configuration file of UniAD's"),
        ("uniad-config --input none.yaml --output a.yaml", "input: none.yaml can't be read"),
        ("uniad-checkpoint --input a.pth.tar", "output: must name a folder to write"),
        ("uniad-checkpoint --input none.pth.tar --output o", "model.published_checkpoint: no such file: none.pth.tar"),
    ],
)
def test_wrong_options_are_errors_of_one_line(main, capsys, words, message):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
