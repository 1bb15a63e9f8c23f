"""Language runs that can't go well end in one line with exit code 2; nothing of them stays on disk."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from llava_files import write_llava

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
TINY = "--model.type prism-tiny --device cpu --trackers jsonl --report false --loader.num_workers 0".split()
FILES = (
    "--dataset.align_annotations align.json --dataset.align_images . --dataset.finetune_annotations finetune.json "
    "--dataset.finetune_images ."
).split()


@pytest.fixture(scope="module")
def main() -> Callable[[PretrainConfig], int]:
    """That of the script."""
    return runpy.run_path(str(ROOT / "scripts/pretrain.py"))["main"]


@pytest.fixture
def fails(main, tmp_path: Path, capsys) -> Callable[..., str]:
    """Run with flags; the line that it fails with."""

    def run(*words: str) -> str:
        argv = [*TINY, *FILES, "--run_root_dir", str(tmp_path / "runs"), *words]
        assert cli.run(PretrainConfig, main, argv) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and not list((tmp_path / "runs").glob("*"))
        return errors[0].removeprefix("error: ")

    return run


def test_finetune_without_an_align_run(fails, tmp_path: Path) -> None:
    root = write_llava(tmp_path / "data").root
    line = fails("--stage", "finetune", "--dataset.root", str(root))
    assert line.startswith("pretrained_checkpoint: stage finetune of prism-tiny begins with the weights of its align")
    assert line.endswith("train that first (--stage align) or pass --pretrained_checkpoint <run folder>")


def test_no_data(fails, tmp_path: Path) -> None:
    assert "dataset.root" in fails("--stage", "align")
    assert "nowhere" in fails("--stage", "align", "--dataset.root", str(tmp_path / "nowhere"))


def test_a_picture_that_is_none(fails, tmp_path: Path) -> None:
    root = write_llava(tmp_path / "data").root
    for path in (root / "images").iterdir():
        path.write_text("no picture")
    line = fails("--stage", "align", "--dataset.root", str(root), "--model.align.max_steps", "1")
    assert "align.json[" in line and ".png can't be read" in line


def test_an_annotation_file_that_is_none(fails, tmp_path: Path) -> None:
    root = write_llava(tmp_path / "data").root
    (root / "align.json").write_text(json.dumps({"rows": []}))
    assert "align.json" in fails("--stage", "align", "--dataset.root", str(root))
