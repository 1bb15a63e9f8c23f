"""scripts/lr_range_test.py: from a configuration to a picture and a suggestion."""

import importlib.util
import json
from pathlib import Path

from vla.conf import cli
from vla.conf.lr_range_test import LRRangeTestConfig

SCRIPT = Path(__file__).parents[2] / "scripts" / "lr_range_test.py"


def load_main():
    spec = importlib.util.spec_from_file_location("lr_range_test_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_writes_curve_and_picture(tmp_path, capsys):
    arguments = [
        "--run_root_dir", str(tmp_path), "--run_id", "tiny", "--range_steps", "4", "--range_start", "1e-5",
        "--range_end", "1e-2", "--loader.num_workers", "0", "--device", "cpu",
    ]  # fmt: skip
    assert cli.run(LRRangeTestConfig, load_main(), arguments) == 0
    folder = tmp_path / "tiny+lr-range-test"
    result = json.loads((folder / "lr_range_test.json").read_text())
    assert len(result["learning_rates"]) == len(result["losses"]) <= 4
    assert result["learning_rates"][0] == 1e-5
    assert (folder / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "checkpoints").exists()
    assert "learning rate: " in capsys.readouterr().out


def test_range_must_grow(capsys):
    assert cli.run(LRRangeTestConfig, load_main(), ["--range_end", "1e-9"]) == 2
    assert capsys.readouterr().err == "error: range_end: must be > range_start (1e-06), got 1e-09\n"
